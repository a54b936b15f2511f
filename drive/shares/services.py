"""Services of share links: create, change, revoke and list them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import services
from drive.models import File, Folder, Share
from drive.uploads import tasks
from ipau.common.errors import Invalid, NotFound
from ipau.common.ids import as_uuid

DEFAULT_DAYS = 30
MOST_DAYS = 3650
TOKEN_BYTES = 24
# Links of one account, including recently revoked ones.
MOST_SHARES = 10_000
MOST_PASSWORD = 200
MOST_LABEL = 100
# Minimum time between two checks of a link for missing renditions.
REFRESH_SECONDS = 15
UNCHANGED: Any = object()
# Links that a file's page shows.
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
    """Create a link to a file or a folder.

    Args:
        expires_at: expiry; None: never; omitted: `DEFAULT_DAYS` from now.
        password: asked from visitors; empty: no password.
        can_download: whether visitors can download the files. Otherwise they see images as renditions, play
            videos and read texts.
        label: the owner's own name for the link.

    Raises:
        NotFound: no such live file or folder of the owner.
        Invalid: not exactly one of file and folder, an invalid expiry or password, or too many links.
    """
    if bool(folder_id) == bool(file_id):
        raise Invalid(_("Choose one file or one folder to share."))
    if Share.objects.filter(owner=owner).order_by()[MOST_SHARES - 1 : MOST_SHARES].exists():
        text = _("You have reached the limit of %(n)s links. Revoked links count for 30 days.")
        raise Invalid(text % {"n": f"{MOST_SHARES:,}"}, code="too_many_shares")
    target: dict[str, Any] = {}
    if folder_id:
        target["folder"] = services.get_folder(owner=owner, folder_id=folder_id)
    else:
        target["file"] = services.get_file(owner=owner, file_id=file_id)
    share = Share.objects.create(
        owner=owner,
        token=secrets.token_urlsafe(TOKEN_BYTES),
        password=_hashed(password),
        can_download=can_download,
        label=_short(label),
        expires_at=in_days(DEFAULT_DAYS) if expires_at is UNCHANGED else _checked(expires_at),
        **target,
    )
    prepare_views(share)
    return share


def prepare_views(share: Share) -> None:
    """Send a task that creates the missing renditions of a view-only link."""
    if not share.can_download:
        transaction.on_commit(lambda: tasks.send_renditions(share_id=str(share.pk)))


def refresh_views(share: Share) -> None:
    """Call `prepare_views` again for files added since, at most once in `REFRESH_SECONDS`."""
    if not share.can_download and cache.add(f"share:views:{share.pk}", 1, REFRESH_SECONDS):
        prepare_views(share)


def get_share(*, owner: User, share_id: object) -> Share:
    """Return a share of `owner`, expired or not, unless it is revoked. Raises NotFound."""
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
    """Change a link's settings; omitted values do not change. Visitors must enter a new password again.

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
    """Revoke a link permanently. Raises NotFound if it does not exist or is already revoked."""
    active = Share.objects.visible_to(owner).filter(pk=as_uuid(share_id), revoked_at__isnull=True)
    if not active.update(revoked_at=timezone.now()):
        raise NotFound(_("This link does not exist."))


def path_of(share: Share) -> str:
    """Return the URL path of a link for visitors."""
    return reverse("share:enter", args=[share.token])


def shares_of(*, owner: User) -> Any:
    """Return the owner's links that are not revoked, with their files and folders."""
    return Share.objects.visible_to(owner).filter(revoked_at__isnull=True).select_related("file", "folder")


def open_shares_reaching(*, owner: User, file: File, ancestors: Sequence[Folder]) -> list[Share]:
    """Return the open links that include a file: its own, and those of its `ancestors`."""
    shares = (
        shares_of(owner=owner).open().filter(Q(file=file) | Q(folder__in=[folder.pk for folder in ancestors]))
    )
    return list(shares.order_by("-id")[:MOST_SHOWN])


def in_days(days: int) -> datetime:
    """Return the expiry of a link created now with a lifetime of `days`."""
    return timezone.now() + timedelta(days=days)


def _checked(expires_at: datetime | None) -> datetime | None:
    if expires_at is not None and not timezone.now() < expires_at <= in_days(MOST_DAYS):
        text = _(
            "The expiry must be in the future and at most %(most)d days ahead, or null for no expiry."
        ) % {"most": MOST_DAYS}
        raise Invalid(text, fields={"expires_at": text})
    return expires_at


def _hashed(password: str) -> str:
    if len(password) > MOST_PASSWORD:
        raise Invalid(
            _("The password is too long. The limit is %(most)d characters.") % {"most": MOST_PASSWORD}
        )
    return make_password(password) if password else ""


def _short(label: str) -> str:
    if len(label) > MOST_LABEL:
        raise Invalid(_("The label is too long. The limit is %(most)d characters.") % {"most": MOST_LABEL})
    return label.strip()
