"""What a listing's card shows: a picture that deploy/covers.py made, or a telling sample of a model."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from django.db.models import QuerySet

from accounts.models import PLATFORM_HANDLE, User
from market.models import Listing, Weights
from market.samples import AnySample, shown_samples
from market.services import with_newest

_FOLDER = Path(__file__).parent / "static" / "market" / "covers"


@cache
def _names() -> frozenset[str]:
    return frozenset(path.stem for path in _FOLDER.glob("*.jpg"))


def cover_of(listing: Listing) -> str:
    """Return the static path of the cover of one of the platform's own; nothing where it has none."""
    return app_cover(listing.name) if listing.owner.handle == PLATFORM_HANDLE else ""


def app_cover(name: str) -> str:
    """Return the static path of the cover of the platform's own app of this name, or nothing."""
    return f"market/covers/{name}.jpg" if name in _names() else ""


def with_covers(models: QuerySet[Listing], *, user: User | None = None) -> QuerySet[Listing]:
    """Fetch along what cards show of models: the newest weights that `user` may run, with their samples."""
    rows = with_newest(models, user=user)
    return rows.prefetch_related("versions__weights__samples", "chosen_samples")


def sample_of(listing: Listing) -> AnySample | None:
    """Return the sample that tells most of a model that came `with_covers`."""
    newest = next(iter(listing.versions.all()), None)
    return choose_sample(shown_samples(newest)) if newest else None


def weights_of(listing: Listing) -> Weights | None:
    """Return the weights of a model's newest version that was fetched along."""
    newest = next(iter(listing.versions.all()), None)
    return newest.weights if newest else None


def choose_sample(samples: Iterable[AnySample]) -> AnySample | None:
    """Return the sample that tells most of a model: with the most kinds of things found, or the surest guess.

    Of those that tell as much it is the first.
    """
    return max(samples, key=_tells, default=None)


def _tells(sample: AnySample) -> tuple[float, int]:
    if sample.seen and "confidence" in sample.seen[0]:
        return max(one["confidence"] for one in sample.seen), 0
    return len(sample.seen), sum(one["count"] for one in sample.seen)
