"""Parameters of operations: base class `Params`, and helpers that declare its fields.

Each helper returns a pydantic field. Its JSON schema has everything that pages and the API need: widget,
title, description, bounds, unit, labels and condition. Pages collapse `advanced` parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The value of a numeric parameter that the operation chooses by itself.
AUTO: Final = "auto"
ShowIf: TypeAlias = Mapping[str, list[str | bool]]


class Params(BaseModel):
    """Parameters of one operation. Immutable. Rejects unknown names, and parses form strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _read_empty_folders(cls, raw: Any) -> Any:
        """Turn "" into None for folders: forms send "" if no folder is chosen."""
        if not isinstance(raw, Mapping):
            return raw
        empty = {name for name in folder_fields(cls) if raw.get(name) == ""}
        return {name: None if name in empty else value for name, value in raw.items()}


def folder_fields(params: type[Params]) -> tuple[str, ...]:
    """Return the names of the parameters that hold a folder of the user's drive."""
    return tuple(name for name, info in params.model_fields.items() if _extra(info).get("format") == "folder")


def slider(
    default: float,
    *,
    ge: float,
    le: float,
    step: float = 1,
    title: str,
    help: str,
    unit: str | None = None,
    display: Literal["at_least_percent"] | None = None,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """Declare a number between `ge` and `le`. `unit` is for display: "px", "%", …

    With `display="at_least_percent"`, pages that list used parameters show 0.25 as «≥ 25 %».
    """
    extra = {"step": step, "unit": unit, "display": display}
    return _declare(default, "slider", title, help, show_if, advanced, extra, ge=ge, le=le)


def auto_slider(
    *,
    start: float,
    step: float = 1,
    auto_label: str = "auto",
    title: str,
    help: str,
    unit: str | None = None,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """Declare a number or "auto", the default.

    Annotate as `Annotated[int, Field(ge=…, le=…)] | Literal["auto"]`. `start` is the
    number that pages show when "auto" is turned off. `auto_label` is the label of "auto".
    """
    extra = {"step": step, "unit": unit, "enum_labels": {AUTO: auto_label}}
    return _declare(AUTO, "slider", title, help, show_if, advanced, extra, examples=[start])


def choice(
    default: str,
    *,
    labels: Mapping[str, str],
    title: str,
    help: str,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """Declare a choice between the values of the annotated Literal. `labels` has a label for each."""
    return _declare(default, "choice", title, help, show_if, advanced, {"enum_labels": dict(labels)})


def toggle(
    default: bool, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """Declare a switch, true or false."""
    return _declare(default, "toggle", title, help, show_if, advanced, {})


def text(
    default: str,
    *,
    min_length: int = 0,
    max_length: int,
    title: str,
    help: str,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """Declare one line of text. Lengths are in characters."""
    bounds = {"min_length": min_length, "max_length": max_length}
    return _declare(default, "text", title, help, show_if, advanced, {}, **bounds)


def color(
    default: str, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """Declare a color, "#rrggbb"."""
    extra, pattern = {"format": "color"}, r"^#[0-9a-fA-F]{6}$"
    return _declare(default, "color", title, help, show_if, advanced, extra, pattern=pattern)


def folder(*, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False) -> Any:
    """Declare a folder of the user's drive: its id, or None. Annotate as `str | None`.

    Its images are in `Context.pictures`, under the name of the parameter.
    """
    extra = {"format": "folder"}
    return _declare(None, "folder", title, help, show_if, advanced, extra, max_length=64)


def _extra(info: Any) -> dict[str, Any]:
    extra = info.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _declare(
    default: Any,
    widget: str,
    title: str,
    help: str,
    show_if: ShowIf | None,
    advanced: bool,
    extra: Any,
    **kw: Any,
) -> Any:
    meta: dict[str, Any] = {"widget": widget, **{k: v for k, v in extra.items() if v is not None}}
    if show_if:
        meta["show_if"] = {name: list(values) for name, values in show_if.items()}
    if advanced:
        meta["advanced"] = True
    return Field(default=default, title=title, description=help, json_schema_extra=meta, **kw)
