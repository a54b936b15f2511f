"""The tables of a test database: the rows that they begin with, and the way back to them."""

from typing import Any

from django.db import transaction
from psycopg import sql

SCHEMA = "beginning"
# Above this a table is rewritten: rows that were only deleted would be read by every later query.
LARGE_BYTES = 1024 * 1024

# Triggers and foreign keys stand back (`replica`): all that refers to anything goes as well. As TRUNCATE
# would, it first waits for transactions that still write.
EMPTY = """
SET LOCAL session_replication_role = replica;
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;
DO $$
DECLARE
    name text;
    filled boolean;
BEGIN
    FOREACH name IN ARRAY {names} LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO filled;
        IF pg_relation_size(quote_ident(name)::regclass) > {large} THEN
            EXECUTE format('TRUNCATE %I CASCADE', name);
        ELSIF filled THEN
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
END $$;
"""
COLUMNS = """
SELECT table_name, array_agg(column_name::text) FROM information_schema.columns
WHERE table_schema = current_schema() AND is_generated = 'NEVER'
AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = %s)
GROUP BY table_name
"""


def keep(connection: Any) -> None:
    """Copy all rows there are; `restore` comes back to them.

    Does nothing for a person who is no superuser, who may not make foreign keys stand back, nor where an
    earlier run has left its database with a copy.
    """
    if are_kept(connection):
        return
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if not cursor.fetchone()[0]:
            return
        _execute(cursor, "CREATE SCHEMA {}", sql.Identifier(SCHEMA))
        for name in connection.introspection.django_table_names(only_existing=True, include_views=False):
            table = sql.Identifier(name)
            cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table))
            if cursor.fetchone()[0]:
                _execute(cursor, "CREATE TABLE {} AS TABLE {}", sql.Identifier(SCHEMA, name), table)


def are_kept(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace(%s) IS NOT NULL", [SCHEMA])
        return bool(cursor.fetchone()[0])


def restore(connection: Any) -> None:
    """Leave in all tables what was there when `keep` was called, and nothing else."""
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        emptied = sql.SQL(EMPTY).format(
            tables=sql.SQL(", ").join(map(sql.Identifier, names)),
            names=sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, names))),
            large=sql.Literal(LARGE_BYTES),
        )
        cursor.execute(emptied)
        cursor.execute(COLUMNS, [SCHEMA])
        for name, columns in cursor.fetchall():
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            _execute(
                cursor,
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
                sql.Identifier(name),
                listed,
                listed,
                sql.Identifier(SCHEMA, name),
            )


def _execute(cursor: Any, statement: str, *parts: sql.Composable) -> None:
    cursor.execute(sql.SQL(statement).format(*parts))
