"""Classes of a model by the names that people and programs write: «car, bus», «"traffic light, red", #7»."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from workers.plugin import OperationError

NAMES_SHOWN = 20
# Begins a class's number where a class might have that number as its name.
NUMBER = "#"


def name_of(names: Sequence[str], class_id: int) -> str:
    """Return a class's name, or its number where the model gives it none."""
    return names[class_id] if class_id < len(names) else str(class_id)


def choose_classes(written: str, names: Sequence[str]) -> frozenset[int] | None:
    """Return the numbers of the classes that a text asks for; None for all.

    Names stand with commas between them; one with a comma in it stands in quotes, as in CSV. Case, blanks at
    the ends and the way in which accents are written make no difference. A class's number will do as well, as
    `#7`, or as `7` where no class has that name. All classes of the same name are meant.

    Raises:
        OperationError: there is no such class.
    """
    if not written.replace(",", "").strip():
        return None
    return _choose(written, tuple(names))


def write_classes(names: Iterable[str]) -> str:
    """Return names as `choose_classes` reads them: those with commas or quotes in quotes."""
    return ", ".join(_quote(name) for name in names)


def read_class_list(listed: Iterable[object]) -> str:
    """Return a program's list of classes as the text that `choose_classes` reads.

    Args:
        listed: names, and numbers of classes.

    Raises:
        ValueError: something else is among them.
    """
    return ", ".join(_write_one(one) for one in listed)


@lru_cache(maxsize=64)
def _choose(written: str, names: tuple[str, ...]) -> frozenset[int]:
    known: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        known.setdefault(_fold(name), []).append(index)
    readings = (written.split(","), _split_quoted(written), [written])
    for parts in readings:
        found = [_find(part, known, len(names)) for part in parts if part.strip()]
        if found and all(found):
            return frozenset(index for indices in found for index in indices)
    parts = [part for part in _split_quoted(written) if part.strip()]
    unknown = next((part for part in parts if not _find(part, known, len(names))), written)
    shown = write_classes(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "")
    text = f"The model knows no class “{unknown.strip()[:60]}”. It knows: {shown}."
    raise OperationError(text, code="unknown_class")


def _find(part: str, known: dict[str, list[int]], count: int) -> list[int]:
    part = part.strip()
    if indices := known.get(_fold(part)):
        return indices
    number = part.removeprefix(NUMBER)
    return [int(number)] if number.isdecimal() and int(number) < count else []


def _fold(name: str) -> str:
    """Return what two spellings of a name have in common: caseless matching of Unicode (3.13, D145)."""
    folded = unicodedata.normalize("NFD", name.strip()).casefold()
    return unicodedata.normalize("NFC", folded)


def _split_quoted(written: str) -> list[str]:
    try:
        return [part for row in csv.reader([written], skipinitialspace=True) for part in row]
    except csv.Error:
        return written.split(",")


def _write_one(one: object) -> str:
    if isinstance(one, int) and not isinstance(one, bool) and one >= 0:
        return f"{NUMBER}{one}"
    if isinstance(one, str) and one.strip():
        return _quote(one)
    raise ValueError("A list of classes has names and numbers of classes alone.")


def _quote(name: str) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="").writerow([name])
    return target.getvalue()
