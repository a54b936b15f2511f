"""Page of parameters, generated from the registry of apps and model families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers import registry


def render(root: Path) -> str:  # noqa: ARG001  # all pages have this signature
    """Return the page, in Markdown."""
    lines = [
        "# Parameters of apps and models",
        "",
        "The names are the parameter names of the API (`input`, `params`).",
        "A model has only the parameters that its task needs.",
    ]
    for title, plugins in (("Apps", registry.all_operations()), ("Model families", registry.all_families())):
        lines += ["", f"## {title}"]
        for plugin in plugins:
            lines += ["", f"### {plugin.title}", "", f"`{plugin.key}`: {plugin.summary}", ""]
            lines += _table(plugin.schema()["properties"])
    return "\n".join(lines) + "\n"


def _table(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| parameter | on the page | values | default | meaning |", "|---|---|---|---|---|"]
    for name, field in fields.items():
        cells = (
            f"`{name}`",
            field.get("title", ""),
            _values(field),
            _default(field),
            field.get("description", ""),
        )
        lines.append(
            "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        )
    return lines


def _values(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "minimum" in field and "maximum" in field:
        return f"{field['minimum']:g} to {field['maximum']:g}"
    if field.get("format") == "folder":
        return "id of a folder"
    if "anyOf" in field:
        return ", ".join(_values(part) for part in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = str(field.get("type", ""))
    return {"boolean": "true, false", "string": "text"}.get(kind, kind)


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value in (None, ""):
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"
