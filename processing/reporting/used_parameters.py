"""The settings that a job used, in the words of its version's schema."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext as _

from market.listings.io_schema import STEP, STEPS, values_of
from workers.vision.class_names import read_class_list


def describe_used(schema: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return `title` and `value` of each setting that had an effect, in the schema's order.

    Defaults are included.

    Args:
        schema: a version's schema of its settings.
        recipe: what a worker ran.
    """
    used = values_of(schema, recipe)
    declared = sorted(schema.get("properties", {}).items(), key=lambda named: named[1].get("x-order", 0))
    return [
        _describe(about, used[name], group_of(schema, about))
        for name, about in declared
        if name in used and _had_effect(about, used)
    ]


def as_text(value: object) -> str:
    """Write a value as its control sends it: «true», «0.25», or nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        # What a program sent for a setting that is a text on pages.
        return read_class_list(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_of(schema: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Name the step of a pipeline to which a setting belongs: «2 · Pixel art»; nothing for an app's."""
    steps = schema.get(STEPS)
    if not steps or STEP not in about:
        return ""
    return f"{about[STEP] + 1} · {translate(steps[about[STEP]]['title'])}"


def translate(text: str) -> str:
    """Operations write plain English; gettext("") would answer with the catalogue's header."""
    return gettext(text) if text else ""


def _had_effect(about: Mapping[str, Any], used: Mapping[str, Any]) -> bool:
    """Tell whether the others were such that this one mattered: the form hides it otherwise."""
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
