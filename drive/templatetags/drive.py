"""Template filters for files."""

from typing import Any

from django import template

from drive.formats import describe
from drive.models import File, FileKind

register = template.Library()

_ICONS = {FileKind.PICTURE: "photo", FileKind.VIDEO: "movie", FileKind.WEIGHTS: "stack-2"}


@register.filter
def kind_icon(file: File) -> str:
    """Return the name of the icon that stands for files of this kind."""
    return _ICONS.get(FileKind(file.kind), "file-text")


@register.filter
def told(file: File) -> list[tuple[Any, str]]:
    """Return label and text of each fact that the file's content tells."""
    return describe.told_of(file)


@register.filter
def duration(file: File) -> str:
    """Return how long a video takes, or nothing where it does not say."""
    seconds = file.facts.get("duration")
    return "" if seconds is None else describe.duration_text(seconds)
