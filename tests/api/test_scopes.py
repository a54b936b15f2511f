"""Scopes of API keys: the table in docs/reference/api.md against every route, method and key."""

import re
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from django.http import HttpResponse
from rest_framework.test import APIClient

from accounts.models import Scope, User
from processing.models import Delivery
from tests.api.routes import Route, all_routes

pytestmark = pytest.mark.django_db

GUIDE = Path(__file__).resolve().parents[2] / "docs/reference/api.md"
ALL = tuple(Scope.values)
COLUMNS = ({"read"}, {"write"}, {"run"}, set(ALL))
ROW = re.compile(r"^\| `(/v1/[^`]*)` \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
KEYS = [chosen for count in (1, 2, 3) for chosen in combinations(ALL, count)]
SECRET = "/v1/webhooks/default/secret"
# By URL and method: sets of scopes, one of which is enough.
Needed = dict[tuple[str, str], list[set[str]]]


def documented() -> Needed:
    """Return the scopes of each URL and method in the guide."""
    found: Needed = defaultdict(list)
    for address, *cells in ROW.findall(GUIDE.read_text()):
        for cell, scopes in zip(cells, COLUMNS, strict=True):
            for method in cell.replace(",", " ").split():
                found[address, method].append(scopes)
    return found


def address_of(route: Route) -> str:
    return re.sub(r"<\w+:(\w+)>", r"{\1}", route.template)


def path_of(address: str) -> str:
    """Return a URL with ids and names that do not exist."""
    return re.sub(r"\{\w+\}", "01890000-0000-7000-8000-000000000000", address)


def test_the_table_has_every_url_and_method() -> None:
    there = {
        (address_of(route), method.upper())
        for route in all_routes()
        for method in (*route.methods, *(["head"] if route.name == "upload" else []))
    }
    assert set(documented()) == there


def test_every_key_has_exactly_the_documented_scopes(user: User, api: Callable[..., APIClient]) -> None:
    clients = {scopes: api(user, scopes) for scopes in KEYS}
    for (address, method), needed in documented().items():
        methods = ("GET", "HEAD") if method == "GET" else (method,)
        for scopes, client in clients.items():
            for asked in methods:
                answer: HttpResponse = client.generic(asked, path_of(address))
                is_allowed = any(enough <= set(scopes) for enough in needed)
                assert (answer.status_code != 403) == is_allowed, (asked, address, scopes)
                assert answer.status_code not in (401, 405), (asked, address)
                if not is_allowed and asked != "HEAD":
                    lacking = set().union(*needed) - set(scopes)
                    detail = answer.json()["detail"]
                    assert all(f"'{scope}'" in detail for scope in lacking), detail


def test_sessions_need_no_scope(user: User, client_of: Callable[[User], APIClient]) -> None:
    browser = client_of(user)
    for (address, method), _ in documented().items():
        assert browser.generic(method, path_of(address)).status_code not in (401, 403), (method, address)


def test_the_signing_secret_needs_all_scopes(user: User, api: Callable[..., APIClient]) -> None:
    full = api(user)
    first = full.get(SECRET).json()["key"]
    for scopes in KEYS[:-1]:
        client = api(user, scopes)
        for answer in (client.get(SECRET), client.post(f"{SECRET}/rotate")):
            assert answer.status_code == 403
            assert first not in answer.content.decode()
    assert full.get(SECRET).json()["key"] == first
    assert full.post(f"{SECRET}/rotate").json()["key"] != first


def test_the_url_of_a_receiver_is_shown_to_keys_with_run(user: User, api: Callable[..., APIClient]) -> None:
    address = "https://hooks.example/services/T0/secret?token=1"
    delivery = Delivery.objects.create(owner=user, event="ping", url=address)
    paths = ("/v1/webhooks/deliveries", f"/v1/webhooks/deliveries/{delivery.pk}")
    for path in paths:
        whole = api(user, ["read", "run"]).get(path).content.decode()
        assert address in whole
        veiled = api(user, ["read"]).get(path).content.decode()
        assert "secret" not in veiled
        assert "https://hooks.example/…" in veiled
