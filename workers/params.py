"""Parameters of an operation: one class, whose fields are declared by the helpers here.

Each helper returns a pydantic field. Its JSON schema gives pages and API everything: widget, title,
description, bounds, unit, labels and when to show it. Pages fold away what is `advanced`, which few change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The value of a numeric parameter that the operation chooses by itself.
AUTO: Final = "auto"
ShowIf: TypeAlias = Mapping[str, list[str | bool]]


class Params(BaseModel):
    """Settings of one operation. Frozen; unknown names are refused; form strings are parsed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _read_empty_folders(cls, raw: Any) -> Any:
        """A form sends "" for «no folder chosen»."""
        if not isinstance(raw, Mapping):
            return raw
        empty = {name for name in folder_fields(cls) if raw.get(name) == ""}
        return {name: None if name in empty else value for name, value in raw.items()}


def folder_fields(params: type[Params]) -> tuple[str, ...]:
    """The names of the settings that hold a folder of the user's drive."""
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
    """A number between `ge` and `le`. `unit` is for reading: "px", "%", …

    With `display="at_least_percent"`, pages that list used settings write 0.25 as «≥ 25 %».
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
    """A number, or "auto", the default. Annotate as `Annotated[int, Field(ge=…, le=…)] | Literal["auto"]`.

    `start` is the number that a page offers to people who turn "auto" off; `auto_label` names "auto".
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
    """One of the annotated Literal's values; `labels` says what each is called."""
    return _declare(default, "choice", title, help, show_if, advanced, {"enum_labels": dict(labels)})


def toggle(
    default: bool, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """Yes or no."""
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
    """One line of text, its length in characters."""
    bounds = {"min_length": min_length, "max_length": max_length}
    return _declare(default, "text", title, help, show_if, advanced, {}, **bounds)


def color(
    default: str, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """A color written "#rrggbb"."""
    extra, pattern = {"format": "color"}, r"^#[0-9a-fA-F]{6}$"
    return _declare(default, "color", title, help, show_if, advanced, extra, pattern=pattern)


def folder(*, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False) -> Any:
    """The id of a folder of the user's drive, or None. Annotate as `str | None`.

    Its pictures arrive in `Context.pictures` under the setting's own name.
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
