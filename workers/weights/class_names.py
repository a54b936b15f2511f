"""The names of a model's classes: a stranger's texts, which reach pages, results and the database."""

from __future__ import annotations

from collections.abc import Sequence

from workers.weights.showing import show
from workers.weights.upload import Refused

# Characters of one of them, and of all together: ten times what twenty thousand honest ones need.
MOST_NAME = 200
MOST_NAMES = 500_000
_SHOWN = 40


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
