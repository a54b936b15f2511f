"""The names of a model's classes: a stranger's texts, which reach pages, results and the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.checkpoints.upload import Refused, show

# Characters of one of them, and of all together: ten times what twenty thousand honest ones need.
MOST_NAME = 200
MOST_NAMES = 500_000
_SHOWN = 40
# Where a config has them: this project's word, Hugging Face's, timm's, and what older ones of both say.
NAMES = ("names", "id2label", "label_names", "labels", "label2id")


def clean_names(names: Sequence[str]) -> list[str]:
    """Return the printable part of each, which may be nothing. Raises Refused for what is too long."""
    for number, name in enumerate(names):
        if len(name) > MOST_NAME:
            text = f"Its class {number}, “{show(name, _SHOWN)}…”, has a name of {len(name):,} characters; "
            raise Refused(f"{text}{MOST_NAME} are the most.", code="classes")
    length = sum(map(len, names))
    if length > MOST_NAMES:
        text = f"The names of its {len(names):,} classes have {length:,} characters together; "
        raise Refused(f"{text}{MOST_NAMES:,} are the most.", code="classes")
    return [show(name, MOST_NAME).strip() for name in names]


def find_names(config: Mapping[str, Any]) -> Any:
    """Return the classes' names as a config has them, None where it has none."""
    inner = config.get("pretrained_cfg")
    for part in (config, inner if isinstance(inner, Mapping) else {}):
        for name in NAMES[:-1]:
            if part.get(name) is not None:
                return part[name]
    named = config.get("label2id")
    return named if named is None else _turn_around(named)


def order_names(found: Any) -> list[str]:
    """Return the classes' names in the order of their numbers.

    Args:
        found: a list, a text of a line for each, names by number ({"0": "cat"}) or numbers by name ({"cat":
        0}).

    Raises:
        ValueError: it names no classes, or not all of them.
    """
    if isinstance(found, Mapping):
        found = _order_numbered(found)
    elif isinstance(found, str):
        found = found.splitlines()
    if not isinstance(found, (list, tuple)):
        raise ValueError("its classes’ names are no list")
    numbers = [name for name in found if _is_whole(name)]
    if len(set(numbers)) != len(numbers):
        raise ValueError("its classes have the same number as a name twice, or no text")
    return [_as_text(name) for name in found]


def _order_numbered(named: Mapping[Any, Any]) -> list[Any]:
    if not all(_as_number(key) is not None for key in named):
        named = _turn_around(named)
    numbered = {_as_number(key): name for key, name in named.items()}
    if len(numbered) != len(named) or set(numbered) != set(range(len(numbered))):
        raise ValueError("its classes are not numbered from 0 without a gap")
    return [numbered[number] for number in range(len(numbered))]


def _turn_around(named: Any) -> Mapping[Any, Any]:
    """Return names by number, from numbers by name."""
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
        raise ValueError("a class has a name that is no text")
    return str(name)
