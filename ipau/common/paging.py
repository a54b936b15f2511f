"""Keyset paging: the cost of a page does not depend on how deep it lies."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Model, Q, QuerySet

from ipau.common.errors import Invalid

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page of rows with the cursors of its neighbours (None at an end)."""

    rows: list[M]
    next: str | None
    previous: str | None


def paginate(rows: QuerySet[M], *, order: Sequence[str], size: int, cursor: str | None = None) -> Page[M]:
    """Return the page of `rows` that `cursor` names, ordered by `order` ("-" means descending).

    The last column of `order` must be unique, and all columns must run in the same direction.

    Raises:
        Invalid: the cursor is not one that this function gave out.
    """
    backwards, after = _decode(cursor, len(order)) if cursor else (False, None)
    names = [name.lstrip("-") for name in order]
    descending = order[0].startswith("-") != backwards
    sort = [f"-{name}" if descending else name for name in names]
    wanted = rows.order_by(*sort)
    if after is not None:
        try:
            wanted = wanted.filter(_beyond(names, after, "lt" if descending else "gt"))
            found = list(wanted[: size + 1])
        except (ValueError, TypeError, ValidationError, DataError) as error:
            raise _bad_cursor() from error
    else:
        found = list(wanted[: size + 1])
    more = len(found) > size
    found = found[:size]
    if backwards:
        found.reverse()
    has_next = backwards or more
    has_previous = more if backwards else after is not None
    return Page(
        rows=found,
        next=_encode(found[-1], names, False) if found and has_next else None,
        previous=_encode(found[0], names, True) if found and has_previous else None,
    )


def _beyond(names: list[str], values: list[Any], comparison: str) -> Q:
    """Return the row-wise comparison (a, b) > (x, y) written so that an index on (a, b) serves it."""
    condition = Q()
    for index in range(len(names)):
        equal = dict(zip(names[:index], values[:index], strict=True))
        condition |= Q(**equal, **{f"{names[index]}__{comparison}": values[index]})
    return condition


def _encode(row: Model, names: list[str], backwards: bool) -> str:
    values = [str(getattr(row, name)) for name in names]
    text = json.dumps([backwards, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, columns: int) -> tuple[bool, list[Any]]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        backwards, *values = json.loads(text)
    except (ValueError, TypeError) as error:
        raise _bad_cursor() from error
    if not isinstance(backwards, bool) or len(values) != columns:
        raise _bad_cursor()
    return backwards, values


def _bad_cursor() -> Invalid:
    return Invalid("This page address is damaged. Start again from the first page.", code="bad_cursor")
