"""Template filters for jobs and settings."""

import base64
import json
from collections.abc import Mapping

from django import template
from django.urls import reverse

from drive.formats.browser_support import is_web_picture
from drive.models import File
from drive.templatetags.drive import view_url
from processing.forms import params_form
from processing.models import Item, Output, State
from processing.previews.channel import Answer
from processing.reporting import detection_filter, used_parameters
from processing.reporting.detection_filter import Narrowing, narrowing_of
from processing.reporting.estimates import credits_text
from processing.reporting.progress import picture_of, time_text
from processing.reporting.stage_timings import STAGE_NAMES
from workers.plugin import AUTO

register = template.Library()

_COLORS = {
    State.STARTING: "secondary",
    State.PROCESSING: "blue",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELED: "orange",
}


@register.filter
def as_text(value: object) -> str:
    """Write a setting's value as its control sends it."""
    return used_parameters.as_text(value)


@register.filter
def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    return time_text(seconds)


@register.filter
def credits(millicredits: int) -> str:
    """Write an amount in credits: «1.5», «0.004»."""
    return credits_text(millicredits)


@register.filter
def is_on(value: object) -> bool:
    """Read what a toggle holds."""
    return params_form.is_on(value)


@register.filter
def is_auto(value: object) -> bool:
    """Tell whether a setting leaves its number to the app or model."""
    return value == AUTO


@register.filter
def state_color(state: str) -> str:
    """Return Tabler's name for a state's color."""
    return _COLORS.get(State(state), "secondary")


@register.filter
def stages(timings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return an item's stages in the order in which they follow each other: name and milliseconds."""
    return [(str(name), timings[stage]) for stage, name in STAGE_NAMES.items() if stage in timings]


@register.filter
def picture(item: Item) -> Output | None:
    """Return the picture among an item's results."""
    return picture_of(item)


@register.filter
def data_uri(answer: Answer) -> str:
    """Write a preview's picture so that a page can carry it."""
    return f"data:{answer.content_type};base64,{base64.b64encode(answer.body).decode()}"


@register.filter
def json_text(data: object) -> str:
    """Write data as JSON that people can read."""
    return json.dumps(data, ensure_ascii=False, indent=2)


@register.filter
def has_original(item: Item) -> bool:
    """Tell whether the picture that an item was made of can still be shown."""
    return detection_filter.has_original(item)


@register.filter
def narrows(item: Item) -> Narrowing | None:
    """Say how what was found can be narrowed, if it can."""
    return narrowing_of(item)


@register.simple_tag
def original_url(file: File | None) -> str:
    """Return the address of a picture that a browser can show; nothing for none."""
    if file is None:
        return ""
    if is_web_picture(file.content_type):
        return reverse("drive:content", args=[file.pk])
    return view_url(file)
