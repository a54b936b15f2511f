"""Template filters for listings."""

from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from market.covers import cover_of, weights_of
from market.listings.markdown import render_markdown
from market.models import Listing
from market.weights.speeds import SpeedText, describe_busiest

register = template.Library()


@register.filter
def cover(listing: Listing) -> str:
    """Return the static path of an app's cover; empty if it has none."""
    return cover_of(listing)


@register.filter
def speed_in_jobs(listing: Listing) -> SpeedText | None:
    """Return the speed in jobs of a model's newest weights, on the busiest device; None before any job."""
    weights = weights_of(listing)
    return describe_busiest(weights.job_speeds.all()) if weights else None


@register.filter
def translated(text: str) -> str:
    """Translate a text of an operation, which is in English."""
    return gettext(text) if text else ""


@register.filter
def markdown(text: str) -> SafeString:
    """Render user-written Markdown as safe HTML."""
    # render_markdown escapes and sanitizes.
    return mark_safe(render_markdown(text))  # noqa: S308  # nosec B308 B703
