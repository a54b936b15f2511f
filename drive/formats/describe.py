"""Facts of videos and weights as label and text, for pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from drive.models import File, FileKind

Formatter = Callable[[Any], str]


def duration_text(seconds: float) -> str:
    """Format 75.4 as 1:15, and 3675 as 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float) -> str:
    """Format 29.97 and 10 without trailing zeros."""
    return number_format(f"{value:g}")


_FACTS: dict[str, tuple[tuple[str, str | Promise, Formatter], ...]] = {
    FileKind.VIDEO: (
        ("duration", _("Duration"), duration_text),
        ("codec", _("Codec"), str),
        ("fps", _("Frames/s"), _number),
        ("sound", _("Sound"), str),
    ),
    FileKind.WEIGHTS: (
        ("format", _("Format"), str),
        ("parameters", _("Parameters"), intcomma),
        ("tensors", _("Tensors"), intcomma),
        ("dtypes", _("Data types"), ", ".join),
        ("nodes", _("Nodes"), intcomma),
        ("opset", _("Opset"), str),
        ("producer", _("Producer"), str),
    ),
}


def facts_of(file: File) -> list[tuple[str | Promise, str]]:
    """Return label and text of each known fact; none for images."""
    rows = _FACTS.get(file.kind, ())
    return [(label, to_text(file.facts[name])) for name, label, to_text in rows if name in file.facts]
