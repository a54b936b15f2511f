"""Table of settings, generated from the calls that read the environment and the `#:` comments above them.

A comment says what a setting does. If the default is not a literal, the last sentence is `Default: ….`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"# --- (.+?) -*")
_DEFAULT = re.compile(r"\s*Default: (.+)\.$")
_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    meaning: str


def render(root: Path) -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Each setting is an environment variable. All programs of the site read the same ones, so set them",
        "in one file, as [Run a site](../how-to/operate.md) does.",
    ]
    for title, settings in sections(root).items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        lines += [f"| `{one.name}` | {one.default} | {one.meaning} |" for one in settings]
    return "\n".join(lines) + "\n"


def sections(root: Path) -> dict[str, list[Setting]]:
    """Return the settings of each section, in the order of the code."""
    found: dict[str, list[Setting]] = {}
    for file, first in (("ipau/settings.py", "General"), ("ipau/gunicorn.py", "Web server processes")):
        source = (root / file).read_text()
        seen: set[str] = set()
        for line, call in _reads(source):
            name = ast.literal_eval(call.args[0])
            comment = _comment_above(source, line)
            if name not in seen and comment:
                seen.add(name)
                title = _section_of(source, line) or first
                found.setdefault(title, []).append(_describe(name, call, comment))
    return found


def _reads(source: str) -> Iterator[tuple[int, ast.Call]]:
    """Yield the calls that read a variable, with their line numbers."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        is_read = isinstance(owner, ast.Name | ast.Attribute) and ast.unparse(owner) in ("env", "os.environ")
        if is_read and call.args and isinstance(call.args[0], ast.Constant):
            yield call.lineno, call


def _comment_above(source: str, line: int) -> str:
    lines = source.splitlines()
    text: list[str] = []
    at = line - 2
    while at >= 0 and lines[at].strip().startswith("#:"):
        text.insert(0, lines[at].strip().removeprefix("#:").strip())
        at -= 1
    return " ".join(text)


def _section_of(source: str, line: int) -> str:
    above = source.splitlines()[: line - 1]
    found = [match[1] for text in above if (match := _SECTION.fullmatch(text))]
    return found[-1] if found else ""


def _describe(name: str, call: ast.Call, comment: str) -> Setting:
    if default := _DEFAULT.search(comment):
        return Setting(name, default[1], comment[: default.start()])
    values = [word.value for word in call.keywords if word.arg == "default"] or call.args[1:]
    return Setting(name, _write(_value(values[0])), comment)


def _value(node: ast.expr) -> object:
    """Return the value of a literal, a product or a power of literals. Raises ValueError for other nodes."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Pow):
        left, right = _value(node.left), _value(node.right)
        assert isinstance(left, int)
        assert isinstance(right, int)
        return left * right if isinstance(node.op, ast.Mult) else left**right
    return ast.literal_eval(node)


def _write(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _write(",".join(value))
    if isinstance(value, int):
        size = next(
            ((value // unit, name) for unit, name in _UNITS if value >= unit and not value % unit), None
        )
        return f"{size[0]} {size[1]}" if size else f"{value:,}"
    return f"`{value}`" if str(value) else "none"
