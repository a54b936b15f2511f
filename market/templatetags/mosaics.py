"""Template tags for the covers of pipelines."""

from django import template
from django.template import Context

from market.models import Listing
from market.mosaics import Mosaic, mosaic_of

register = template.Library()


@register.simple_tag(takes_context=True)
def mosaic(context: Context, listing: Listing) -> Mosaic:
    """Return the cover of a pipeline, which `market.mosaics.with_mosaics` fetched along."""
    return mosaic_of(listing, user=context.get("user"))
