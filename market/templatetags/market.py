"""Template filters for listings."""

from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from market.covers import cover_of, weights_of
from market.listings.markdown import render_markdown
from market.models import Listing
from market.weights.speeds import ToldSpeed, tell_busiest

register = template.Library()


@register.filter
def cover(listing: Listing) -> str:
    """Return the static path of an app's cover; nothing where it has none."""
    return cover_of(listing)


@register.filter
def speed_in_jobs(listing: Listing) -> ToldSpeed | None:
    """Return how fast a model's newest weights are in jobs, where most ran; nothing before any did."""
    weights = weights_of(listing)
    return tell_busiest(weights.job_speeds.all()) if weights else None


@register.filter
def translated(text: str) -> str:
    """Say in the reader's language what an operation says in English."""
    return gettext(text) if text else ""


@register.filter
def markdown(text: str) -> SafeString:
    """Show what somebody wrote in Markdown."""
    # Escaped and cleaned there.
    return mark_safe(render_markdown(text))  # noqa: S308  # nosec B308 B703
