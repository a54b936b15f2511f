"""Template filters for listings."""

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from market.covers import cover_of, weights_of
from market.models import Listing
from market.speeds import ToldSpeed, tell_busiest

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
def prose(text: str) -> SafeString:
    """Show paragraphs, **bold** and `code`; everything else as it was written."""
    safe: str = escape(text.strip())
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe)
    paragraphs = [part.replace("\n", "<br>") for part in re.split(r"\n\s*\n", safe) if part]
    # Escaped above; only tags of our own have been added.
    return mark_safe("".join(f"<p>{part}</p>" for part in paragraphs))  # noqa: S308  # nosec B308 B703
