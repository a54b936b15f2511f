"""Wording of errors: form labels for pages, parameter names for the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_for_programs: ContextVar[bool] = ContextVar("for_programs", default=False)


@contextmanager
def for_programs() -> Iterator[None]:
    """Use the names of the API in errors that the block raises. Every view of the API runs in it."""
    token = _for_programs.set(True)
    try:
        yield
    finally:
        _for_programs.reset(token)


def is_for_programs() -> bool:
    """Return whether errors use the names of the API."""
    return _for_programs.get()
