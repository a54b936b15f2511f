"""Cover images of listings: a static image of deploy/covers.py, a model sample, or a mosaic of both."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.db.models import Prefetch, QuerySet

from accounts.models import PLATFORM_HANDLE, User
from market.listings.services import with_newest
from market.models import Listing, StepModel, Version, Weights
from market.pipelines.model_steps import models_of
from market.weights.samples import AnySample, shown_samples

MOST_TILES = 4
# Large columns that covers do not need.
_UNREAD = ("model__recipe", "model__params_schema", "model__weights__facts")
_FOLDER = Path(__file__).parent / "static" / "market" / "covers"


@dataclass(frozen=True)
class Tile:
    """Cover of one step: a static image path, a sample of its weights, or nothing.

    Steps with the same `key` share one tile.
    """

    key: str
    path: str = ""
    sample: AnySample | None = None
    weights: Weights | None = None


@dataclass(frozen=True)
class CoverMosaic:
    """At most four tiles, in the order of the steps. `more` is the number of tiles left out."""

    tiles: list[Tile]
    more: int = 0


def cover_of(listing: Listing) -> str:
    """Return the static path of the cover of a listing of the platform; empty if it has none."""
    return app_cover(listing.name) if listing.owner.handle == PLATFORM_HANDLE else ""


def app_cover(name: str) -> str:
    """Return the static path of the cover of the built-in app `name`; empty if it has none."""
    return f"market/covers/{name}.jpg" if name in _names() else ""


def with_covers(models: QuerySet[Listing], *, user: User | None = None) -> QuerySet[Listing]:
    """Prefetch the newest weights that `user` may run, with their samples, for cards."""
    rows = with_newest(models, user=user)
    return rows.prefetch_related("versions__weights__samples", "chosen_samples")


def sample_of(listing: Listing) -> AnySample | None:
    """Return the best sample of a model that was loaded `with_covers`."""
    newest = _newest(listing)
    return choose_sample(shown_samples(newest)) if newest else None


def weights_of(listing: Listing) -> Weights | None:
    """Return the weights of a model's newest prefetched version."""
    newest = _newest(listing)
    return newest.weights if newest else None


def choose_sample(samples: Iterable[AnySample]) -> AnySample | None:
    """Return the sample with the most detected classes, or with the most confident classification.

    Ties go to the first sample.
    """
    return max(samples, key=_score, default=None)


def with_mosaics(rows: QuerySet[Listing]) -> QuerySet[Listing]:
    """Prefetch models and samples for `mosaic_of`, for pipelines loaded `with_newest`."""
    steps = StepModel.objects.select_related("model__listing__owner", "model__weights").defer(*_UNREAD)
    steps = steps.prefetch_related("model__weights__samples", "model__listing__chosen_samples")
    return rows.prefetch_related(Prefetch("versions__models", steps))


def mosaic_of(listing: Listing, *, user: Any) -> CoverMosaic:
    """Return the cover of a pipeline that was loaded `with_mosaics`.

    The tile of a model that `user` cannot run is empty.
    """
    newest = _newest(listing)
    tiles = list({tile.key: tile for tile in _tiles(newest, user)}.values()) if newest else []
    if len(tiles) <= MOST_TILES:
        return CoverMosaic(tiles)
    return CoverMosaic(tiles[: MOST_TILES - 1], len(tiles) - MOST_TILES + 1)


def _tiles(version: Version, user: Any) -> Iterator[Tile]:
    models = models_of(version)
    for position, step in enumerate(version.recipe["steps"]):
        model = models.get(position)
        if model is None:
            yield Tile(step["operation"], path=app_cover(step["operation"]))
        elif model.weights is None or not model.is_offered_to(user):
            yield Tile(str(model.listing_id))
        else:
            sample = choose_sample(shown_samples(model))
            yield Tile(str(model.listing_id), cover_of(model.listing), sample, model.weights)


@cache
def _names() -> frozenset[str]:
    return frozenset(path.stem for path in _FOLDER.glob("*.jpg"))


def _newest(listing: Listing) -> Version | None:
    """Return the newest prefetched version."""
    return next(iter(listing.versions.all()), None)


def _score(sample: AnySample) -> tuple[float, int]:
    if sample.seen and "confidence" in sample.seen[0]:
        return max(one["confidence"] for one in sample.seen), 0
    return len(sample.seen), sum(one["count"] for one in sample.seen)
