"""Template filters for files."""

from typing import Any

from django import template
from django.urls import reverse

from drive.formats import describe
from drive.models import File, FileKind, Share
from workers.thumbnail_sizes import THUMBNAIL_SIDE, VIEW_SIDE

register = template.Library()

_ICONS = {FileKind.PICTURE: "photo", FileKind.VIDEO: "movie", FileKind.WEIGHTS: "stack-2"}


@register.simple_tag
def thumbnail_url(file: Any, share: Share | None = None) -> str:
    """Return the URL of a file's thumbnail, for its owner or for visitors of a link; "" for no file.

    If the file is annotated with the thumbnail's digest, browsers may cache the URL permanently.
    """
    if not file:
        return ""
    address = _address(file, THUMBNAIL_SIDE, share)
    digest = getattr(file, "thumbnail", None)
    return f"{address}?v={digest[:16]}" if digest and share is None else address


@register.simple_tag
def view_url(file: File, share: Share | None = None) -> str:
    """Return the URL of a file's large rendition, for its owner or for visitors of a link."""
    return _address(file, VIEW_SIDE, share)


def _address(file: File, side: int, share: Share | None) -> str:
    if share is None:
        return reverse("drive:thumbnail", args=[file.pk, side])
    return reverse("share:thumbnail", args=[share.token, file.pk, side])


@register.filter
def kind_icon(file: File) -> str:
    """Return the name of the icon for files of this kind."""
    return _ICONS.get(FileKind(file.kind), "file-text")


@register.filter
def facts(file: File) -> list[tuple[Any, str]]:
    """Return label and text of each fact about the file's content."""
    return describe.facts_of(file)


@register.filter
def duration(file: File) -> str:
    """Return the duration of a video as text, or "" if it is unknown."""
    seconds = file.facts.get("duration")
    return "" if seconds is None else describe.duration_text(seconds)
