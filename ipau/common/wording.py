"""Who reads an error: a person at a page, in the words of its form, or a program, in the names of the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_for_programs: ContextVar[bool] = ContextVar("for_programs", default=False)


@contextmanager
def for_programs() -> Iterator[None]:
    """Word errors for programs in this block, as every view of the API does."""
    token = _for_programs.set(True)
    try:
        yield
    finally:
        _for_programs.reset(token)


def is_for_programs() -> bool:
    """Tell whether errors are read by a program."""
    return _for_programs.get()
