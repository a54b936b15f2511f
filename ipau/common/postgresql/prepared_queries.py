"""Queries of nearly every request: Django writes their SQL once, PostgreSQL plans them once a connection.

To write the SQL of a join takes Django longer than PostgreSQL takes to answer it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

M = TypeVar("M", bound=Model)

_SAMPLES: Mapping[type, Callable[[], Any]] = {str: lambda: uuid.uuid4().hex, uuid.UUID: uuid.uuid4}


class PreparedQuery(Generic[M]):
    """A query for one row that is asked again and again, with other values.

    Args:
        build: returns the queryset for values. It is called once, with samples: the shape of what it asks for
            must not depend on them.
        kinds: the type of each value: `str` or `UUID`.
    """

    def __init__(self, build: Callable[..., QuerySet[M]], **kinds: type):
        self._build = build
        self._kinds = kinds

    def first(self, **values: Any) -> M | None:
        """Return the first row with its related ones, or None."""
        if any(isinstance(value, str) and "\0" in value for value in values.values()):
            # PostgreSQL knows no NUL, and so refuses to look for one.
            return None
        row = _ask(self._written.sql, self._written.fill(values))
        return None if row is None else self._written.make(row)

    @cached_property
    def _written(self) -> _Written[M]:
        samples = {name: _SAMPLES[kind]() for name, kind in self._kinds.items()}
        return _Written(self._build(**samples)[:1], samples)


class _Written(Generic[M]):
    """The SQL of a queryset, and how its rows become objects, as Django's `ModelIterable` does it."""

    def __init__(self, rows: QuerySet[M], samples: Mapping[str, Any]):
        compiler = rows.query.get_compiler(connection=connection)
        self.sql, params = compiler.as_sql()
        names = {sample: name for name, sample in samples.items()}
        self._params = [(names.get(param), param) for param in params]
        if unused := names.keys() - set(params):
            raise ValueError(f"These do not reach the database: {sorted(names[sample] for sample in unused)}")
        shape = compiler.klass_info
        self._model = shape["model"]
        self._columns = slice(shape["select_fields"][0], shape["select_fields"][-1] + 1)
        self._names = [column.target.attname for column, *_ in compiler.select[self._columns]]
        # The stubs are those of a later Django, where it takes one argument more.
        self._related = get_related_populators(shape, compiler.select, connection.alias)  # type: ignore[call-arg]  # the stubs lag
        self._converters = compiler.get_converters([column for column, *_ in compiler.select])

    def fill(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the statement's parameters. Raises KeyError where a value is missing."""
        return [values[name] if name else fixed for name, fixed in self._params]

    def make(self, row: Sequence[Any]) -> M:
        """Return the object of a row of the database."""
        cells = list(row)
        for position, (converters, column) in self._converters.items():
            for convert in converters:
                cells[position] = convert(cells[position], column, connection)
        made: M = self._model.from_db(connection.alias, self._names, cells[self._columns])
        for related in self._related:
            related.populate(cells, made)
        return made


def _ask(sql: str, params: Sequence[Any]) -> Sequence[Any] | None:
    """Return the first row of a statement whose parameters are sent beside it, so that its plan is kept."""
    with _cursor() as cursor:
        cursor.execute(sql, params)
        row: Sequence[Any] | None = cursor.fetchone()
        return row


def _cursor() -> CursorWrapper:
    if connection.queries_logged:
        # Django reads what was asked off a cursor that binds values by itself.
        return connection.cursor()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        # The stubs do not tell that it is a cursor of psycopg.
        bare: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]  # the stubs lag
    return connection.make_cursor(bare)
