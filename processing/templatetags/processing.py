"""Template filters for jobs, parameters and results."""

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
    """Return the value of a parameter as its control sends it."""
    return used_parameters.as_text(value)


@register.filter
def duration(seconds: float) -> str:
    """Return a duration in seconds as text: «3 min»."""
    return time_text(seconds)


@register.filter
def credits(millicredits: int) -> str:
    """Return an amount in credits as text: «1.5», «0.004»."""
    return credits_text(millicredits)


@register.filter
def is_on(value: object) -> bool:
    """Return whether the value of a toggle means on."""
    return params_form.is_on(value)


@register.filter
def is_auto(value: object) -> bool:
    """Tell whether a setting leaves its number to the app or model."""
    return value == AUTO


@register.filter
def state_color(state: str) -> str:
    """Return the Tabler color name of a state."""
    return _COLORS.get(State(state), "secondary")


@register.filter
def stages(timings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the stages of an item in order, as (name, milliseconds)."""
    return [(str(name), timings[stage]) for stage, name in STAGE_NAMES.items() if stage in timings]


@register.filter
def picture(item: Item) -> Output | None:
    """Return the image among the results of an item, or None."""
    return picture_of(item)


@register.filter
def data_uri(answer: Answer) -> str:
    """Return the image of a preview as a data URI."""
    return f"data:{answer.content_type};base64,{base64.b64encode(answer.body).decode()}"


@register.filter
def json_text(data: object) -> str:
    """Return data as indented JSON."""
    return json.dumps(data, ensure_ascii=False, indent=2)


@register.filter
def has_original(item: Item) -> bool:
    """Return whether the input image of an item can still be shown."""
    return detection_filter.has_original(item)


@register.filter
def narrows(item: Item) -> Narrowing | None:
    """Return how the detections of an item can be filtered, or None."""
    return narrowing_of(item)


@register.simple_tag
def original_url(file: File | None) -> str:
    """Return a URL of a file that browsers can show, or an empty text without a file."""
    if file is None:
        return ""
    if is_web_picture(file.content_type):
        return reverse("drive:content", args=[file.pk])
    return view_url(file)
