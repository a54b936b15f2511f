"""What cards show of models and pipelines: a sample or a mosaic of several, and what a task is called."""

from django import template
from django.template import Context

from market.covers import CoverMosaic, mosaic_of, sample_of, weights_of
from market.models import Listing, Weights
from market.weights.report import name_task
from market.weights.samples import AnySample

register = template.Library()


@register.filter
def newest_weights(listing: Listing) -> Weights | None:
    """Return the weights of a model's newest version, which `market.covers.with_covers` fetched along."""
    return weights_of(listing)


@register.filter
def best_sample(listing: Listing) -> AnySample | None:
    """Return the sample that tells most of a model, which `market.covers.with_covers` fetched along."""
    return sample_of(listing)


@register.filter
def task_name(weights: Weights) -> str:
    """Say in a word what a model of these weights is: "Detector"."""
    return name_task(weights.task)


@register.simple_tag(takes_context=True)
def mosaic(context: Context, listing: Listing) -> CoverMosaic:
    """Return the cover of a pipeline, which `market.covers.with_mosaics` fetched along."""
    return mosaic_of(listing, user=context.get("user"))
