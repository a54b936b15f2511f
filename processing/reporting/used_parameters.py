"""Parameters that a job used, with titles and units from the schema of its version."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext as _

from market.listings.io_schema import STEP, STEPS, values_of
from workers.vision.class_names import read_class_list


def describe_used(schema: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return `title` and `value` of each parameter that had an effect, in schema order.

    Defaults are included.

    Args:
        schema: the parameter schema of a version.
        recipe: the recipe that a worker ran.
    """
    used = values_of(schema, recipe)
    declared = sorted(schema.get("properties", {}).items(), key=lambda named: named[1].get("x-order", 0))
    return [
        _describe(about, used[name], group_of(schema, about))
        for name, about in declared
        if name in used and _had_effect(about, used)
    ]


def as_text(value: object) -> str:
    """Return a value as its form control sends it: «true», «0.25», or empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        # The API accepts a list where pages show a text field.
        return read_class_list(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_of(schema: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return the title of the pipeline step of a parameter, such as «2 · Pixel art»; empty for apps."""
    steps = schema.get(STEPS)
    if not steps or STEP not in about:
        return ""
    return f"{about[STEP] + 1} · {translate(steps[about[STEP]]['title'])}"


def translate(text: str) -> str:
    """Translate a text of an operation. gettext("") would return the header of the catalog."""
    return gettext(text) if text else ""


def _had_effect(about: Mapping[str, Any], used: Mapping[str, Any]) -> bool:
    """Return whether a parameter had an effect. The form hides it otherwise (`show_if`)."""
    return all(used.get(name) in values for name, values in (about.get("show_if") or {}).items())


def _describe(about: Mapping[str, Any], value: Any, group: str) -> dict[str, str]:
    labels = about.get("enum_labels") or {}
    if isinstance(value, bool):
        text = _("Yes") if value else _("No")
    elif value is None:
        text = _("None")
    elif about.get("display") == "at_least_percent":
        text = f"≥ {100 * value:.0f} %"
    else:
        text = _(labels[value]) if value in labels else as_text(value)
    unit = "" if value in labels else about.get("unit") or ""
    title = _(about["title"]) if about.get("title") else ""
    return {"title": f"{group}: {title}" if group else title, "value": f"{text} {_(unit)}" if unit else text}
