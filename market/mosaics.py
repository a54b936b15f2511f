"""Covers of pipelines: made of those that the apps and models of their steps have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Prefetch, QuerySet

from market.covers import app_cover, choose_sample, cover_of
from market.model_steps import models_of
from market.models import Listing, StepModel, Version, Weights
from market.samples import AnySample, shown_samples

MOST_TILES = 4
_UNREAD = ("model__recipe", "model__params_schema", "model__weights__facts")


@dataclass(frozen=True)
class Tile:
    """What one step shows: a picture by its static path, or a sample of its weights, or nothing.

    Steps with the same `key` show the same.
    """

    key: str
    path: str = ""
    sample: AnySample | None = None
    weights: Weights | None = None


@dataclass(frozen=True)
class Mosaic:
    """At most four tiles, in the order of the steps; `more` have found no room among them."""

    tiles: list[Tile]
    more: int = 0


def with_mosaics(rows: QuerySet[Listing]) -> QuerySet[Listing]:
    """Fetch along what `mosaic_of` asks of pipelines that come `with_newest`: models with their samples."""
    steps = StepModel.objects.select_related("model__listing__owner", "model__weights").defer(*_UNREAD)
    steps = steps.prefetch_related("model__weights__samples", "model__listing__chosen_samples")
    return rows.prefetch_related(Prefetch("versions__models", steps))


def mosaic_of(listing: Listing, *, user: Any) -> Mosaic:
    """Return the cover of a pipeline that came `with_mosaics`.

    Of a model that `user` cannot run it shows nothing.
    """
    newest = next(iter(listing.versions.all()), None)
    tiles = list({tile.key: tile for tile in _tiles(newest, user)}.values()) if newest else []
    if len(tiles) <= MOST_TILES:
        return Mosaic(tiles)
    return Mosaic(tiles[: MOST_TILES - 1], len(tiles) - MOST_TILES + 1)


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
