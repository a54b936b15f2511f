"""Visits of share links: look up the link, check its password, count visits, find shared files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.hashers import check_password
from django.core.cache import cache
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from drive.files import services
from drive.models import File, Folder, Share
from drive.shares.services import MOST_PASSWORD
from ipau.common.errors import Invalid, NotFound, RateLimited

# Wrong passwords from one IP address, and from all of them together.
TRIES, TRIES_OF_ALL = 5, 100
TRIES_SECONDS = 300
# Requests of a visitor within this time belong to one visit.
VISIT_SECONDS = 30 * 60


def no_share() -> NotFound:
    """Return one error for links that are unknown or ended, and for files outside the share."""
    return NotFound(_("This link has expired or doesn’t exist."))


def find_share(*, token: str) -> Share:
    """Return the open share with this token. Raises NotFound in all other cases."""
    rows = Share.objects.open().filter(token=token, owner__is_active=True)
    share = rows.select_related("file__blob", "folder", "owner").first()
    if share is None:
        raise no_share()
    target = share.file or share.folder
    if target is None or target.trashed_at is not None:
        raise no_share()
    return share


def fingerprint(share: Share) -> str:
    """Return the proof of a correct password for the session. It is invalid after a change of password."""
    return salted_hmac("drive.sharing", f"{share.pk}:{share.password}", algorithm="sha256").hexdigest()


def enter_share(*, share: Share, password: str, address: str) -> str:
    """Check a visitor's password and return the `fingerprint` for their session.

    Raises:
        RateLimited: too many recent wrong passwords, from this IP address or from all.
        Invalid: the password is wrong.
    """
    keys = {
        f"share:tries:{share.pk}:{_digest(address)}": TRIES,
        f"share:tries:{share.pk}": TRIES_OF_ALL,
    }
    for key, most in keys.items():
        cache.add(key, 0, TRIES_SECONDS)
        # Counted before the check, so that concurrent attempts are counted too.
        if cache.incr(key) > most:
            raise RateLimited(_("Too many wrong passwords. Wait five minutes, then try again."))
    if len(password) > MOST_PASSWORD or not check_password(password, share.password):
        raise Invalid(_("Wrong password."), code="wrong_password")
    for key in keys:
        cache.decr(key)
    return fingerprint(share)


def count_visit(*, share: Share, visitor: str) -> None:
    """Count a visit once for all its pages, without a cookie.

    Args:
        visitor: a string that identifies the visitor. Only its digest is stored, for half an hour.
    """
    key = f"share:visit:{share.pk}:{_digest(visitor)}"
    if cache.add(key, 1, VISIT_SECONDS):
        Share.objects.filter(pk=share.pk).update(visits=F("visits") + 1, last_visited_at=timezone.now())
    else:
        cache.touch(key, VISIT_SECONDS)


@dataclass(frozen=True)
class SharedFolder:
    """A folder inside a share, and the path to it: the shared folder first, `folder` last."""

    folder: Folder
    path: list[Folder]


def place_in(*, share: Share, folder_id: UUID | None) -> SharedFolder:
    """Return a folder inside a share; None: the shared folder. Raises NotFound if it is outside the share."""
    if share.folder is None:
        raise no_share()
    if folder_id is None or folder_id == share.folder_id:
        return SharedFolder(share.folder, [share.folder])
    folder = Folder.objects.filter(owner=share.owner_id, pk=folder_id).live().first()
    path = services.ancestors_of(folder)
    above = next((n for n, step in enumerate(path) if step.pk == share.folder_id), None)
    if folder is None or above is None:
        raise no_share()
    return SharedFolder(folder, path[above:])


def file_in(*, share: Share, file_id: UUID) -> tuple[File, list[Folder]]:
    """Return a live file of a share, and the folders from the shared one to it. Raises NotFound."""
    if share.file is not None:
        if share.file_id != file_id:
            raise no_share()
        return share.file, []
    rows = File.objects.filter(owner=share.owner_id, pk=file_id).live().select_related("blob")
    file = rows.first()
    if file is None or file.folder_id is None:
        raise no_share()
    return file, place_in(share=share, folder_id=file.folder_id).path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
