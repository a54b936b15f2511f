"""Steps that follow each other: what they are called, what they deliver together, whether they fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from workers.plugin import OutputSpec

Outputs = Sequence[OutputSpec]


def name_steps(operations: Iterable[str]) -> tuple[str, ...]:
    """Name each step after its operation's key; 2, 3, … tell repeats apart.

    What comes later never changes a name: the first steps of a chain are called alike without the rest.
    """
    names: list[str] = []
    for key in operations:
        names.append(_distinct(key, names))
    return tuple(names)


def label_texts(steps: Iterable[Outputs]) -> tuple[dict[str, str], ...]:
    """Return for each step under which label its texts and its data are delivered: "text", then "text2", …"""
    taken: list[str] = []
    found = []
    for outputs in steps:
        own = {}
        for output in outputs:
            if output.kind in ("text", "data"):
                own[output.label] = _distinct(output.label, taken)
                taken.append(own[output.label])
        found.append(own)
    return tuple(found)


def find_misfit(steps: Sequence[Outputs]) -> int | None:
    """Return the position of the first step that would get no picture from the one before; None: all fit."""
    for position, outputs in enumerate(steps[:-1]):
        if not any(output.kind == "image" for output in outputs):
            return position + 1
    return None


def _distinct(name: str, taken: Collection[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found
