"""Which apps have a cover: the pictures before and after that deploy/covers.py made."""

from functools import cache
from pathlib import Path

from accounts.models import PLATFORM_HANDLE
from market.models import Listing

_FOLDER = Path(__file__).parent / "static" / "market" / "covers"


@cache
def _names() -> frozenset[str]:
    return frozenset(path.stem for path in _FOLDER.glob("*.jpg"))


def cover_of(listing: Listing) -> str:
    """Return the static path of an app's cover; nothing where it has none."""
    if listing.owner.handle != PLATFORM_HANDLE or listing.name not in _names():
        return ""
    return f"market/covers/{listing.name}.jpg"
