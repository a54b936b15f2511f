"""Prepared queries: Django compiles their SQL once, PostgreSQL plans them once per connection.

For a join, Django takes longer to compile the SQL than PostgreSQL takes to run it.
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
    """A query for one row that runs often, with different values.

    Args:
        build: returns the queryset for given values. It is called once, with sample values, so the SQL must
            not depend on them.
        kinds: type of each value: `str` or `UUID`.
    """

    def __init__(self, build: Callable[..., QuerySet[M]], **kinds: type):
        self._build = build
        self._kinds = kinds

    def first(self, **values: Any) -> M | None:
        """Return the first row with its related rows, or None."""
        if any(isinstance(value, str) and "\0" in value for value in values.values()):
            # PostgreSQL raises an error for NUL characters, which no stored text contains.
            return None
        row = _fetch_one(self._compiled.sql, self._compiled.params(values))
        return None if row is None else self._compiled.instance(row)

    @cached_property
    def _compiled(self) -> _CompiledQuery[M]:
        samples = {name: _SAMPLES[kind]() for name, kind in self._kinds.items()}
        return _CompiledQuery(self._build(**samples)[:1], samples)


class _CompiledQuery(Generic[M]):
    """The SQL of a queryset, and the conversion of its rows to objects, as in Django's `ModelIterable`."""

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
        # The stubs are for a later Django version with one more argument.
        self._related = get_related_populators(shape, compiler.select, connection.alias)  # type: ignore[call-arg]  # the stubs lag
        self._converters = compiler.get_converters([column for column, *_ in compiler.select])

    def params(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters of the statement. Raises KeyError if a value is missing."""
        return [values[name] if name else fixed for name, fixed in self._params]

    def instance(self, row: Sequence[Any]) -> M:
        """Return the model instance of a database row."""
        cells = list(row)
        for position, (converters, column) in self._converters.items():
            for convert in converters:
                cells[position] = convert(cells[position], column, connection)
        instance: M = self._model.from_db(connection.alias, self._names, cells[self._columns])
        for related in self._related:
            related.populate(cells, instance)
        return instance


def _fetch_one(sql: str, params: Sequence[Any]) -> Sequence[Any] | None:
    """Return the first row. Parameters are bound on the server, so PostgreSQL reuses the plan."""
    with _cursor() as cursor:
        cursor.execute(sql, params)
        row: Sequence[Any] | None = cursor.fetchone()
        return row


def _cursor() -> CursorWrapper:
    if connection.queries_logged:
        # Django's query log needs a cursor that binds values on the client.
        return connection.cursor()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        # The stubs do not know that this is a cursor of psycopg.
        bare: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]  # the stubs lag
    return connection.make_cursor(bare)
