"""Leases are written by one module alone, and models that have one have the same columns."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.db import models

from drive.models import File, Upload
from ipau.common.leases import Leased, LeasedWithAttempts
from processing.models import Delivery

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("lease_token", "lease_expires_at")
_WRITES = {"update", "create", "get_or_create", "update_or_create", "aupdate"}
_SQL = re.compile(r"lease_expires_at\s*=|lease_token\s*=\s*null|set\s[^;]*?lease_token\s*=[^;]*?where", re.I)
# Times that are no leases: until then something is counted, an owner is restrained, an old secret signs.
NO_LEASES = {"counted_until", "restrained_until", "previous_until"}


def writes(source: str) -> Iterator[int]:
    """Yield the lines on which Python writes a column of a lease by itself."""
    for node in ast.walk(ast.parse(source)):
        if any(_is_write(node)):
            yield getattr(node, "lineno", 0)


def _is_write(node: ast.AST) -> Iterator[bool]:
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        for given in node.keywords:
            yield given.arg == "lease_expires_at"
            yield given.arg == "lease_token" and (called in _WRITES or called[:1].isupper())
            yield given.arg == "update_fields" and any(map(_is_column, ast.walk(given.value)))
        yield called == "setattr" and any(map(_is_column, node.args))
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in (part for whole in targets for part in ast.walk(whole)):
            yield getattr(target, "attr", getattr(target, "id", "")) in COLUMNS
            yield isinstance(target, ast.Subscript) and _is_column(target.slice)
    if isinstance(node, ast.Dict):
        yield any(map(_is_column, node.keys))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _SQL.search(node.value) is not None


def _is_column(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in COLUMNS


def test_no_other_module_writes_a_lease() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for app in ("ipau", "accounts", "drive", "market", "processing", "workers")
        for path in sorted((ROOT / app).rglob("*.py"))
        if "migrations" not in path.parts and path != ROOT / "ipau/common/leases.py"
        for line in writes(path.read_text())
    ]
    assert found == [], "Use ipau.common.leases"


@pytest.mark.parametrize(
    "source",
    [
        "rows.update(lease_expires_at=Now() + LEASE)",
        "rows.update(lease_token=token)",
        "Item(lease_token=token)",
        "item.lease_expires_at = now",
        "item.lease_token, item.other = token, 1",
        "changes = {'lease_token': None}",
        "changes['lease_expires_at'] = None",
        "item.save(update_fields=['lease_expires_at'])",
        "setattr(item, 'lease_token', token)",
        "lease_expires_at = models.DateTimeField()",
        "SQL = 'UPDATE x SET lease_expires_at = now()'",
        "SQL = f'UPDATE x SET a = {b}, lease_token = NULL'",
        "SQL = 'UPDATE x SET lease_token = %(token)s WHERE id = 1'",
    ],
)
def test_the_search_finds_a_write(source: str) -> None:
    assert list(writes(source))


@pytest.mark.parametrize(
    "source",
    [
        "rows.filter(lease_token=token, lease_expires_at__gt=Now())",
        "rows.values_list('lease_token')",
        "token = item.lease_token",
        "SQL = 'UPDATE x SET a = 1 WHERE lease_token = %(token)s'",
    ],
)
def test_the_search_lets_reads_pass(source: str) -> None:
    assert not list(writes(source))


def test_every_leased_model_has_the_same_columns() -> None:
    leased, renamed = set(), set()
    for model in apps.get_models():
        names = {field.name for field in model._meta.get_fields() if isinstance(field, models.Field)}
        if names & set(COLUMNS):
            assert issubclass(model, Leased), model
            leased.add(model.__name__)
        renamed |= {name for name in names if name.endswith("_until")}
    assert leased >= {
        "File",
        "Upload",
        "Conversion",
        "ConversionAccount",
        "Item",
        "Delivery",
        "JobMail",
        "Pause",
    }
    assert renamed == NO_LEASES, "A claim for a limited time is a lease: inherit ipau.common.leases.Leased"
    for model in (File, Upload, Delivery):
        assert issubclass(model, LeasedWithAttempts)
