"""Form of the parameters of an app, built from the JSON schema of its version.

The form does not validate. The code that serves the API validates the values and returns the errors.
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

# Other fields that pages send. No parameter may have one of these names.
CONTROL_NAMES = frozenset(
    {"file", "folder", "sample", "selection", "over", "request_key", "output", "page", "tab", "q"}
)
_KINDS = frozenset({"slider", "choice", "toggle", "text", "color", "folder"})
_TRUE = frozenset({"true", "on", "1", "yes"})

Choices = list[tuple[str, str]]


class SettingField(forms.CharField):
    """One parameter, as text exactly as typed. `kind` selects the template of its control."""

    def __init__(self, about: Mapping[str, Any], choices: Choices, group: str = "") -> None:
        super().__init__(
            required=False,
            strip=False,
            label=translate(about.get("title", "")),
            help_text=translate(about.get("description", "")),
            initial=about.get("default"),
        )
        # Title of its pipeline step, such as «2 · Pixel art»; empty for apps.
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
    """Parameters shown together, such as those of a step. `more` are collapsed."""

    title: str
    usual: list[BoundField]
    more: list[BoundField]

    @property
    def is_open(self) -> bool:
        """Whether a collapsed parameter has an error or differs from its default."""
        return any(bound.errors or _is_changed(bound) for bound in self.more)


class ParamsForm(forms.Form):
    """Parameters of a version.

    Args:
        schema: the JSON schema of the version.
        folders: choices of folder parameters, as (id, label).
        initial: initial values by name. Missing ones have their default.
        data: values that a page sent, for a form that shows errors.
    """

    def __init__(
        self,
        *,
        schema: Mapping[str, Any],
        folders: Iterable[tuple[str, str]] = (),
        initial: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data=data, initial=dict(initial or {}))
        folder_choices = [("", gettext("None")), *folders]
        for name, about in schema.get("properties", {}).items():
            if name in CONTROL_NAMES:
                raise ValueError(f"Rename the parameter {name!r}: pages use this field name themselves.")
            self.fields[name] = SettingField(about, _choices(about, folder_choices), group_of(schema, about))

    @property
    def has_box(self) -> bool:
        """Whether there are parameters for a box, which can then be drawn on the image."""
        return {"x", "y", "width", "height"} <= set(self.fields)

    @property
    def groups(self) -> list[Group]:
        """The parameters in page order: one group for an app, one for each step of a pipeline."""
        return [
            _group(title, list(fields))
            for title, fields in groupby(self, key=lambda bound: _field(bound).group)
        ]

    def defaults_json(self) -> str:
        """Return the defaults as their controls send them, in JSON, for «Reset»."""
        fields: dict[str, Any] = self.fields
        return json.dumps({name: field.default_text for name, field in fields.items()})

    def show_domain_error(self, error: DomainError) -> None:
        """Add an error to the parameters that it names, or to the whole form if it names none."""
        self.is_valid()
        known = {name: text for name, text in error.fields.items() if name in self.fields}
        for name, text in known.items():
            self.add_error(name, text)
        if not known:
            self.add_error(None, error.message)


def _group(title: str, fields: list[BoundField]) -> Group:
    usual = [bound for bound in fields if not _field(bound).is_advanced]
    more = [bound for bound in fields if _field(bound).is_advanced]
    # If all are advanced, show them all.
    return Group(title, usual, more) if usual else Group(title, more, [])


def _is_changed(bound: BoundField) -> bool:
    return as_text(bound.value()) != _field(bound).default_text


def _field(bound: BoundField) -> SettingField:
    field: Any = bound.field
    setting: SettingField = field
    return setting


def read_params(schema: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters among the fields of a page or query string. Missing ones have their default.

    Numbers and booleans are parsed. Values that cannot be parsed stay text, and validation reports them.
    """
    about = schema.get("properties", {})
    return {name: _read(about[name], sent[name]) for name in about if name in sent}


def is_on(value: object) -> bool:
    """Return whether the value of a toggle means on."""
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
