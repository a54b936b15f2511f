"""What a file's content tells of itself, as a page says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from drive.models import File, FileKind

Writer = Callable[[Any], str]


def duration_text(seconds: float) -> str:
    """Return 75.4 as 1:15, and 3675 as 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float) -> str:
    """Return 29.97 and 10 as they are: no zeros behind."""
    return number_format(f"{value:g}")


_TOLD: dict[str, tuple[tuple[str, str | Promise, Writer], ...]] = {
    FileKind.VIDEO: (
        ("duration", _("Duration"), duration_text),
        ("codec", _("Codec"), str),
        ("fps", _("Frames a second"), _number),
        ("sound", _("Sound"), str),
    ),
    FileKind.WEIGHTS: (
        ("format", _("Format"), str),
        ("parameters", _("Parameters"), intcomma),
        ("tensors", _("Tensors"), intcomma),
        ("dtypes", _("Types of numbers"), ", ".join),
        ("nodes", _("Nodes"), intcomma),
        ("opset", _("Operator set"), str),
        ("producer", _("Written by"), str),
    ),
}


def told_of(file: File) -> list[tuple[str | Promise, str]]:
    """Return label and text of each fact that is known; none for pictures, whose size says enough."""
    rows = _TOLD.get(file.kind, ())
    return [(label, write(file.facts[name])) for name, label, write in rows if name in file.facts]
