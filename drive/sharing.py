"""Links by which others see a file or a folder: made and ended by its owner, entered by whoever has them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import check_password, make_password
from django.core.cache import cache
from django.db import transaction
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from accounts.models import User
from drive import services, tasks
from drive.models import File, Folder, Share
from drive.placing import as_uuid
from ipau.common.errors import Invalid, NotFound, RateLimited

DEFAULT_DAYS = 30
MOST_DAYS = 3650
TOKEN_BYTES = 24
# Links of one person, with those that were revoked lately.
MOST_SHARES = 10_000
MOST_PASSWORD = 200
MOST_LABEL = 100
# Wrong passwords: from one address, and from all of them together.
TRIES, TRIES_OF_ALL = 5, 100
TRIES_SECONDS = 300
# Whoever comes back within this time is still on the same visit.
VISIT_SECONDS = 30 * 60
# How often visits make a worker look for images that lack a rendition.
REFRESH_SECONDS = 15
UNCHANGED: Any = object()
# A file's page names so many of the links that lead to it.
MOST_SHOWN = 20


def create_share(
    *,
    owner: User,
    folder_id: object = None,
    file_id: object = None,
    expires_at: datetime | None = UNCHANGED,
    password: str = "",
    can_download: bool = True,
    label: str = "",
) -> Share:
    """Make a link to a file or a folder.

    Args:
        expires_at: until when it works; None: until it is revoked; not given: for `DEFAULT_DAYS`.
        password: what visitors must know; empty: nothing.
        can_download: whether visitors get the files. Otherwise they see images as renditions, play videos and
            read texts.
        label: what the owner calls it.

    Raises:
        NotFound: no such live file or folder of the owner.
        Invalid: neither or both are named, the time or password cannot be used, or there are too many links.
    """
    if bool(folder_id) == bool(file_id):
        raise Invalid(_("Share one file or one folder."))
    if Share.objects.filter(owner=owner).order_by()[MOST_SHARES - 1 : MOST_SHARES].exists():
        text = _("You have %(n)s links, which is the most. Revoked ones count for 30 days.")
        raise Invalid(text % {"n": f"{MOST_SHARES:,}"}, code="too_many_shares")
    named: dict[str, Any] = {}
    if folder_id:
        named["folder"] = services.get_folder(owner=owner, folder_id=folder_id)
    else:
        named["file"] = services.get_file(owner=owner, file_id=file_id)
    share = Share.objects.create(
        owner=owner,
        token=secrets.token_urlsafe(TOKEN_BYTES),
        password=_hashed(password),
        can_download=can_download,
        label=_short(label),
        expires_at=in_days(DEFAULT_DAYS) if expires_at is UNCHANGED else _checked(expires_at),
        **named,
    )
    prepare_views(share)
    return share


def prepare_views(share: Share) -> None:
    """Have a worker make what visitors of a view-only link see in place of the images."""
    if not share.can_download:
        transaction.on_commit(lambda: tasks.send_renditions(share_id=str(share.pk)))


def refresh_views(share: Share) -> None:
    """As `prepare_views`, because files may have come since; at most once in `REFRESH_SECONDS`."""
    if not share.can_download and cache.add(f"share:views:{share.pk}", 1, REFRESH_SECONDS):
        prepare_views(share)


def get_share(*, owner: User, share_id: object) -> Share:
    """Return a share of `owner` that is not revoked, expired or not. Raises NotFound."""
    rows = Share.objects.visible_to(owner).filter(pk=as_uuid(share_id), revoked_at__isnull=True)
    share = rows.select_related("file", "folder").first()
    if share is None:
        raise NotFound(_("This link does not exist."))
    return share


def change_share(
    *,
    owner: User,
    share_id: object,
    expires_at: datetime | None = UNCHANGED,
    password: str = UNCHANGED,
    can_download: bool = UNCHANGED,
    label: str = UNCHANGED,
) -> Share:
    """Change a link's terms; what is not given stays. A new password ends what the old one opened.

    Raises: as `create_share`.
    """
    changes: dict[str, Any] = {}
    if expires_at is not UNCHANGED:
        changes["expires_at"] = _checked(expires_at)
    if password is not UNCHANGED:
        changes["password"] = _hashed(password)
    if can_download is not UNCHANGED:
        changes["can_download"] = can_download
    if label is not UNCHANGED:
        changes["label"] = _short(label)
    with transaction.atomic():
        share = get_share(owner=owner, share_id=share_id)
        Share.objects.filter(pk=share.pk).update(updated_at=timezone.now(), **changes)
    share = get_share(owner=owner, share_id=share_id)
    prepare_views(share)
    return share


def revoke_share(*, owner: User, share_id: object) -> None:
    """End a link for good. Raises NotFound where there is none any more."""
    open_ones = Share.objects.visible_to(owner).filter(pk=as_uuid(share_id), revoked_at__isnull=True)
    if not open_ones.update(revoked_at=timezone.now()):
        raise NotFound(_("This link does not exist."))


def path_of(share: Share) -> str:
    """Return the address, without the site's, at which others enter."""
    return reverse("share:enter", args=[share.token])


def shares_of(*, owner: User) -> Any:
    """Return the owner's links that are not revoked, with what they lead to."""
    return Share.objects.visible_to(owner).filter(revoked_at__isnull=True).select_related("file", "folder")


def open_shares_reaching(*, owner: User, file: File, way: Sequence[Folder]) -> list[Share]:
    """Return the links by which visitors see a file: its own, and those of the folders on the `way` to it."""
    shares = shares_of(owner=owner).open().filter(Q(file=file) | Q(folder__in=[step.pk for step in way]))
    return list(shares.order_by("-id")[:MOST_SHOWN])


# --- Visitors.


def no_share() -> NotFound:
    """Say the same whether a link never was, has ended, or does not lead where somebody tried to go."""
    return NotFound(_("There is nothing at this address, or no longer."))


def find_share(*, token: str) -> Share:
    """Return the share that a visitor may enter. Raises NotFound, whatever the reason."""
    rows = Share.objects.open().filter(token=token, owner__is_active=True)
    share = rows.select_related("file__blob", "folder", "owner").first()
    if share is None:
        raise no_share()
    shown = share.file or share.folder
    if shown is None or shown.trashed_at is not None:
        raise no_share()
    return share


def fingerprint(share: Share) -> str:
    """Return what a session keeps as proof of a password; another password makes it worthless."""
    return salted_hmac("drive.sharing", f"{share.pk}:{share.password}", algorithm="sha256").hexdigest()


def enter_share(*, share: Share, password: str, address: str) -> str:
    """Check a visitor's password and return the proof that their session keeps.

    Raises:
        RateLimited: too many wrong ones of late, from this address or from all.
        Invalid: it is wrong.
    """
    keys = {
        f"share:tries:{share.pk}:{_digest(address)}": TRIES,
        f"share:tries:{share.pk}": TRIES_OF_ALL,
    }
    for key, most in keys.items():
        cache.add(key, 0, TRIES_SECONDS)
        # Counted before the check, so that tries made at once are all counted.
        if cache.incr(key) > most:
            raise RateLimited(_("Too many wrong passwords. Wait five minutes, then try again."))
    if len(password) > MOST_PASSWORD or not check_password(password, share.password):
        raise Invalid(_("This is not the password."), code="wrong_password")
    for key in keys:
        cache.decr(key)
    return fingerprint(share)


def count_visit(*, share: Share, visitor: str) -> None:
    """Count a visit once, however many pages are looked at. Needs no cookie.

    Args:
        visitor: what tells visitors apart; only a digest is kept, for half an hour.
    """
    key = f"share:visit:{share.pk}:{_digest(visitor)}"
    if cache.add(key, 1, VISIT_SECONDS):
        Share.objects.filter(pk=share.pk).update(visits=F("visits") + 1, last_visited_at=timezone.now())
    else:
        cache.touch(key, VISIT_SECONDS)


@dataclass(frozen=True)
class Place:
    """A folder inside a share, and the way there from the shared one, which comes first."""

    folder: Folder
    way: list[Folder]


def place_in(*, share: Share, folder_id: UUID | None) -> Place:
    """Return a folder of a shared folder; None: the shared one. Raises NotFound, also for those above it."""
    if share.folder is None:
        raise no_share()
    if folder_id is None or folder_id == share.folder_id:
        return Place(share.folder, [share.folder])
    folder = Folder.objects.filter(owner=share.owner_id, pk=folder_id).live().first()
    way = services.ancestors_of(folder)
    above = next((n for n, step in enumerate(way) if step.pk == share.folder_id), None)
    if folder is None or above is None:
        raise no_share()
    return Place(folder, way[above:])


def file_in(*, share: Share, file_id: UUID) -> tuple[File, list[Folder]]:
    """Return a live file of a share and the way to it from the shared folder. Raises NotFound."""
    if share.file is not None:
        if share.file_id != file_id:
            raise no_share()
        return share.file, []
    rows = File.objects.filter(owner=share.owner_id, pk=file_id).live().select_related("blob")
    file = rows.first()
    if file is None or file.folder_id is None:
        raise no_share()
    return file, place_in(share=share, folder_id=file.folder_id).way


def in_days(days: int) -> datetime:
    """Return when a link of so many days ends that is made now."""
    return timezone.now() + timedelta(days=days)


def _checked(expires_at: datetime | None) -> datetime | None:
    if expires_at is not None and not timezone.now() < expires_at <= in_days(MOST_DAYS):
        text = _("A link can end from now on up to %(most)d days ahead, or never.") % {"most": MOST_DAYS}
        raise Invalid(text, fields={"expires_at": text})
    return expires_at


def _hashed(password: str) -> str:
    if len(password) > MOST_PASSWORD:
        raise Invalid(_("A password has %(most)d characters at most.") % {"most": MOST_PASSWORD})
    return make_password(password) if password else ""


def _short(label: str) -> str:
    if len(label) > MOST_LABEL:
        raise Invalid(_("A label has %(most)d characters at most.") % {"most": MOST_LABEL})
    return label.strip()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
