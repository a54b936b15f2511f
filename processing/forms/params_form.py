"""The form of an app's settings, made from the schema that its Params class gives.

It checks nothing by itself: the same code that serves the API reads the values and says what is wrong.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.utils.translation import gettext

from ipau.common.errors import DomainError
from market.listings.io_schema import allows_auto, number_schema
from processing.reporting.used_parameters import as_text, group_of, translate
from workers.plugin import AUTO

# What a page sends beside the settings. No setting may have one of these names.
CONTROL_NAMES = frozenset(
    {"file", "folder", "sample", "selection", "over", "request_key", "output", "page", "tab", "q"}
)
_KINDS = frozenset({"slider", "choice", "toggle", "text", "color", "folder"})
_TRUE = frozenset({"true", "on", "1", "yes"})

Choices = list[tuple[str, str]]


class SettingField(forms.CharField):
    """One setting. It keeps what was typed; its kind names the template that shows it."""

    def __init__(self, about: Mapping[str, Any], choices: Choices, group: str = "") -> None:
        super().__init__(
            required=False,
            strip=False,
            label=translate(about.get("title", "")),
            help_text=translate(about.get("description", "")),
            initial=about.get("default"),
        )
        # Of a pipeline: the step that it belongs to, «2 · Pixel art».
        self.group = group
        self.is_advanced = bool(about.get("advanced"))
        self.kind = _kind(about)
        self.template = f"processing/settings/{'auto_slider' if allows_auto(about) else self.kind}.html"
        self.choices = choices
        self.unit = translate(about.get("unit") or "")
        number = number_schema(about)
        self.lowest = number.get("minimum")
        self.highest = number.get("maximum")
        self.step = about.get("step") or ("1" if number.get("type") == "integer" else "any")
        # Of a number that may be "auto": what "auto" is called, and the number in its place when it is off.
        self.auto_label = translate((about.get("enum_labels") or {})[AUTO]) if allows_auto(about) else ""
        self.start = next(iter(about.get("examples", ())), self.lowest)
        self.max_chars = about.get("maxLength")
        show_if = about.get("show_if")
        self.show_if = json.dumps(show_if) if show_if else ""
        self.default_text = as_text(about.get("default"))


@dataclass(frozen=True)
class Group:
    """Settings that stand together, those of a step under its title. `more` are folded away."""

    title: str
    usual: list[BoundField]
    more: list[BoundField]

    @property
    def is_open(self) -> bool:
        """Whether one of those folded away is not at its default, or something is wrong with it."""
        return any(bound.errors or _is_changed(bound) for bound in self.more)


class ParamsForm(forms.Form):
    """Settings of a version.

    Args:
        schema: the version's JSON schema.
        folders: what a setting that takes a folder may be, as (id, label).
        given: values by name, from a page or an address; what is missing keeps its default.
        data: what a page has sent, for a form that shows what is wrong with it.
    """

    def __init__(
        self,
        *,
        schema: Mapping[str, Any],
        folders: Iterable[tuple[str, str]] = (),
        given: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data=data, initial=dict(given or {}))
        offered = [("", gettext("None")), *folders]
        for name, about in schema.get("properties", {}).items():
            if name in CONTROL_NAMES:
                raise ValueError(f"A setting cannot be called {name!r}: pages use that name themselves.")
            self.fields[name] = SettingField(about, _choices(about, offered), group_of(schema, about))

    @property
    def has_box(self) -> bool:
        """Whether four settings describe a box, which can then be drawn."""
        return {"x", "y", "width", "height"} <= set(self.fields)

    @property
    def groups(self) -> list[Group]:
        """The settings as a page shows them, in their order: an app's as one group, a pipeline's by step."""
        return [
            _group(title, list(found))
            for title, found in groupby(self, key=lambda bound: _field(bound).group)
        ]

    def defaults_json(self) -> str:
        """Every setting's default as its control would send it, for «Reset»."""
        fields: dict[str, Any] = self.fields
        return json.dumps({name: field.default_text for name, field in fields.items()})

    def show_domain_error(self, error: DomainError) -> None:
        """Put a problem beside the settings that it names, or above the form when it names none of them."""
        self.is_valid()
        known = {name: text for name, text in error.fields.items() if name in self.fields}
        for name, text in known.items():
            self.add_error(name, text)
        if not known:
            self.add_error(None, error.message)


def _group(title: str, found: list[BoundField]) -> Group:
    usual = [bound for bound in found if not _field(bound).is_advanced]
    more = [bound for bound in found if _field(bound).is_advanced]
    # Where there are no others, there is nothing to fold them away below.
    return Group(title, usual, more) if usual else Group(title, more, [])


def _is_changed(bound: BoundField) -> bool:
    return as_text(bound.value()) != _field(bound).default_text


def _field(bound: BoundField) -> SettingField:
    field: Any = bound.field
    found: SettingField = field
    return found


def read_params(schema: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among what a page or an address has sent. What is not there takes its default.

    Numbers and switches become such where they can be read; what cannot is left for the check to name.
    """
    about = schema.get("properties", {})
    return {name: _read(about[name], sent[name]) for name in about if name in sent}


def is_on(value: object) -> bool:
    """Read what a toggle holds."""
    return value is True or str(value).lower() in _TRUE


def _read(about: Mapping[str, Any], value: Any) -> Any:
    if about.get("widget") == "folder":
        return value or None
    readers: dict[str, Any] = {"integer": int, "number": float, "boolean": _read_switch}
    reader = readers.get(number_schema(about).get("type", ""))
    try:
        return reader(value) if reader else value
    except ValueError:
        return value


def _read_switch(value: object) -> object:
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    return words.get(str(value).lower(), value)


def _kind(about: Mapping[str, Any]) -> str:
    widget = str(about.get("widget", ""))
    return widget if widget in _KINDS else "text"


def _choices(about: Mapping[str, Any], folders: Choices) -> Choices:
    if about.get("widget") == "folder":
        return folders
    labels = about.get("enum_labels") or {}
    return [(value, translate(str(labels.get(value, value)))) for value in about.get("enum", ())]
