"""Template filters for cards: sample or mosaic cover, and the name of a task."""

from django import template
from django.template import Context

from market.covers import CoverMosaic, mosaic_of, sample_of, weights_of
from market.models import Listing, Weights
from market.weights.report import name_task
from market.weights.samples import AnySample

register = template.Library()


@register.filter
def newest_weights(listing: Listing) -> Weights | None:
    """Return the weights of a model's newest version, prefetched by `market.covers.with_covers`."""
    return weights_of(listing)


@register.filter
def best_sample(listing: Listing) -> AnySample | None:
    """Return the best sample of a model, prefetched by `market.covers.with_covers`."""
    return sample_of(listing)


@register.filter
def task_name(weights: Weights) -> str:
    """Return a one-word name of the task of weights: "Detector"."""
    return name_task(weights.task)


@register.simple_tag(takes_context=True)
def mosaic(context: Context, listing: Listing) -> CoverMosaic:
    """Return the cover of a pipeline, prefetched by `market.covers.with_mosaics`."""
    return mosaic_of(listing, user=context.get("user"))
