"""Parse and write lists of class names: «car, bus», «"traffic light, red", #7»."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from workers.plugin import OperationError

NAMES_SHOWN = 20
# Prefix of a class number. It tells numbers from classes whose name is a number.
NUMBER = "#"


def name_of(names: Sequence[str], class_id: int) -> str:
    """Return the name of a class, or its number if the model has no name for it."""
    return names[class_id] if class_id < len(names) else str(class_id)


def choose_classes(written: str, names: Sequence[str]) -> frozenset[int] | None:
    """Return the class numbers of a list of class names; None for all classes.

    Names are separated by commas. Names with commas are quoted, as in CSV. Case, surrounding spaces and
    Unicode normalization are ignored. A class number is accepted as `#7`, or as `7` if no class has that
    name. A name that several classes have selects all of them.

    Raises:
        OperationError: a class does not exist.
    """
    if not written.replace(",", "").strip():
        return None
    return _choose(written, tuple(names))


def write_classes(names: Iterable[str]) -> str:
    """Return names in the format of `choose_classes`. Names with commas or quotes are quoted."""
    return ", ".join(_quote(name) for name in names)


def read_class_list(listed: Iterable[object]) -> str:
    """Return a list of class names and numbers in the format of `choose_classes`.

    Raises:
        ValueError: an entry is neither a name nor a number.
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
    text = f"The model has no class “{unknown.strip()[:60]}”. Its classes: {shown}."
    raise OperationError(text, code="unknown_class")


def _find(part: str, known: dict[str, list[int]], count: int) -> list[int]:
    part = part.strip()
    if indices := known.get(_fold(part)):
        return indices
    number = part.removeprefix(NUMBER)
    return [int(number)] if number.isdecimal() and int(number) < count else []


def _fold(name: str) -> str:
    """Return a key for caseless matching, by the rules of Unicode (3.13, D145)."""
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
    raise ValueError("A list of classes must contain class names and class numbers only.")


def _quote(name: str) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="").writerow([name])
    return target.getvalue()
