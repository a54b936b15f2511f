"""Class names of a model: untrusted texts, which reach pages, results and the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.checkpoints.upload import Refused, show

# Most characters of one name, and of all names: ten times what 20,000 ordinary names need.
MOST_NAME = 200
MOST_NAMES = 500_000
_SHOWN = 40
# Config keys with class names: of this project, Hugging Face, timm, and older versions of both.
NAMES = ("names", "id2label", "label_names", "labels", "label2id")


def clean_names(names: Sequence[str]) -> list[str]:
    """Return the printable part of each name, which may be empty. Raises Refused for long names."""
    for number, name in enumerate(names):
        if len(name) > MOST_NAME:
            text = f"Its class {number}, “{show(name, _SHOWN)}…”, has a name of {len(name):,} characters; "
            raise Refused(f"{text}the limit is {MOST_NAME}.", code="classes")
    length = sum(map(len, names))
    if length > MOST_NAMES:
        text = f"The names of its {len(names):,} classes have {length:,} characters in total; "
        raise Refused(f"{text}the limit is {MOST_NAMES:,}.", code="classes")
    return [show(name, MOST_NAME).strip() for name in names]


def find_names(config: Mapping[str, Any]) -> Any:
    """Return the class names as the config states them, or None."""
    inner = config.get("pretrained_cfg")
    for part in (config, inner if isinstance(inner, Mapping) else {}):
        for name in NAMES[:-1]:
            if part.get(name) is not None:
                return part[name]
    named = config.get("label2id")
    return named if named is None else _invert(named)


def order_names(found: Any) -> list[str]:
    """Return the class names in the order of their numbers.

    Args:
        found: a list, a text with one name per line, names by number ({"0": "cat"}), or numbers by name
            ({"cat": 0}).

    Raises:
        ValueError: there are no names, or some are missing.
    """
    if isinstance(found, Mapping):
        found = _order_numbered(found)
    elif isinstance(found, str):
        found = found.splitlines()
    if not isinstance(found, (list, tuple)):
        raise ValueError("its class names are not a list")
    numbers = [name for name in found if _is_whole(name)]
    if len(set(numbers)) != len(numbers):
        raise ValueError("two of its classes have the same number as their name")
    return [_as_text(name) for name in found]


def _order_numbered(named: Mapping[Any, Any]) -> list[Any]:
    if not all(_as_number(key) is not None for key in named):
        named = _invert(named)
    numbered = {_as_number(key): name for key, name in named.items()}
    if len(numbered) != len(named) or set(numbered) != set(range(len(numbered))):
        raise ValueError("its classes are not numbered from 0 without a gap")
    return [numbered[number] for number in range(len(numbered))]


def _invert(named: Any) -> Mapping[Any, Any]:
    """Return names by number, for numbers by name."""
    numbers = [_as_number(number) for number in named.values()] if isinstance(named, Mapping) else [None]
    if None in numbers or len(set(numbers)) != len(numbers):
        raise ValueError("its classes are not numbered from 0 without a gap")
    return dict(zip(numbers, named, strict=True))


def _as_number(value: Any) -> int | None:
    if _is_whole(value):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_text(name: Any) -> str:
    if not isinstance(name, str) and not _is_whole(name):
        raise ValueError("the name of a class is not a string")
    return str(name)
