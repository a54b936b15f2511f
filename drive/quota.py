"""How many bytes a person may keep in their drive, and how many they do. What is in the trash counts too."""

from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File
from ipau.common.errors import TooLarge

# The bar on the pages may be this old; what decides about an upload never is.
KEPT_SECONDS = 30


@dataclass(frozen=True)
class Usage:
    """Bytes that are used, of bytes that may be."""

    used: int
    quota: int

    @property
    def left(self) -> int:
        return max(0, self.quota - self.used)

    @property
    def share(self) -> float:
        """Used of allowed, 0 to 1."""
        return min(1.0, self.used / self.quota) if self.quota else 1.0


def used_bytes(owner: User) -> int:
    """Return the bytes of all of the owner's files, counted now; a copy counts like any other file."""
    return File.objects.filter(owner=owner.pk).aggregate(total=Sum("size"))["total"] or 0


def quota_of(owner: User) -> int:
    """Return how many bytes the owner may keep."""
    return settings.DRIVE_QUOTA_BYTES if owner.quota_bytes is None else owner.quota_bytes


def usage_of(owner: User) -> Usage:
    """Return what a page shows: up to half a minute old, so that looking around costs no sums."""
    used = cache.get_or_set(_key(owner), lambda: used_bytes(owner), KEPT_SECONDS)
    return Usage(used or 0, quota_of(owner))


def check_room(*, owner: User, size: int) -> None:
    """Refuse `size` more bytes where they do not fit.

    Two uploads at once can only be held apart under the owner's lock (`placing.lock_tree`); before bytes are
    taken in, the same question asked without it spares everybody the sending.

    Raises:
        TooLarge: with how much is left and how much was sent.
    """
    usage = Usage(used_bytes(owner), quota_of(owner))
    cache.set(_key(owner), usage.used, KEPT_SECONDS)
    if size <= usage.left:
        return
    numbers = {"left": filesizeformat(usage.left), "size": filesizeformat(size)}
    text = _("Your drive has %(left)s left and this file has %(size)s. Empty the trash or delete files.")
    raise TooLarge(text % numbers, code="quota_exceeded")


def _key(owner: User) -> str:
    return f"drive:used:{owner.pk}"
