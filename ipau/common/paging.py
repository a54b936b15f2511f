"""Keyset pagination: a page costs the same at any depth."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import BooleanField, F, Func, Model, QuerySet, Value

from ipau.common.errors import Invalid

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page of rows, with the cursors of the next and previous page (None at an end)."""

    rows: list[M]
    next: str | None
    previous: str | None


def paginate(
    rows: QuerySet[M],
    *,
    order: Sequence[str],
    size: int,
    cursor: str | None = None,
    pinned: Sequence[str] = (),
) -> Page[M]:
    """Return the page of `rows` at `cursor`, ordered by `order` ("-" means descending).

    The last column of `order` must be unique, and all columns must run in the same direction.

    Args:
        pinned: columns that have the same value in all `rows` and precede `order` in an index. Needed for
            columns that are NULL: PostgreSQL ignores a column with an equality condition, but not IS NULL.

    Raises:
        Invalid: the cursor does not come from this function.
    """
    backwards, after = _decode(cursor, len(order)) if cursor else (False, None)
    names = [name.lstrip("-") for name in order]
    descending = order[0].startswith("-") != backwards
    sort = [f"-{name}" if descending else name for name in (*pinned, *names)]
    wanted = rows.order_by(*sort)
    if after is not None:
        try:
            wanted = wanted.filter(_beyond(rows, names, after, "<" if descending else ">"))
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


class _Beyond(Func):
    """The row-wise comparison (a, b) > (x, y). PostgreSQL answers it with one index lookup on (a, b)."""

    template = "%(expressions)s"
    output_field = BooleanField()

    def __init__(self, *expressions: Any, comparison: str) -> None:
        super().__init__(*expressions)
        half = len(expressions) // 2
        columns, values = (", ".join(["%s"] * half) for _ in range(2))
        self.shape = f"({columns}) {comparison} ({values})"

    def as_sql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts: list[str] = []
        params: list[Any] = []
        for expression in self.get_source_expressions():
            sql, its_params = compiler.compile(expression)
            parts.append(sql)
            params += its_params
        return self.shape % tuple(parts), params


def _beyond(rows: QuerySet[Any], names: list[str], values: list[Any], comparison: str) -> _Beyond:
    fields = [_field(rows, name) for name in names]
    operands = [Value(value, output_field=field) for value, field in zip(values, fields, strict=True)]
    return _Beyond(*(F(name) for name in names), *operands, comparison=comparison)


def _field(rows: QuerySet[Any], name: str) -> Any:
    annotation = rows.query.annotations.get(name)
    return annotation.output_field if annotation is not None else rows.model._meta.get_field(name)


def cursor_after(row: Model, order: Sequence[str]) -> str:
    """Return the cursor of the page that begins after `row`."""
    return _encode(row, [name.lstrip("-") for name in order], False)


def cursor_before(row: Model, order: Sequence[str]) -> str:
    """Return the cursor of the page that ends before `row`."""
    return _encode(row, [name.lstrip("-") for name in order], True)


def _encode(row: Model, names: list[str], backwards: bool) -> str:
    values = [str(getattr(row, name)) for name in names]
    text = json.dumps([backwards, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, columns: int) -> tuple[bool, list[Any]]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        backwards, *values = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad_cursor() from error
    if not isinstance(backwards, bool) or len(values) != columns:
        raise _bad_cursor()
    return backwards, values


def _bad_cursor() -> Invalid:
    return Invalid("This page link is invalid. Start again from the first page.", code="bad_cursor")
