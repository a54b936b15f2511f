"""Addresses of actions lead browsers to a page, and pages are compressed."""

import gzip
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from ipau.common.http.action_pages import page_above

pytestmark = pytest.mark.django_db
_VALUES = {
    "uuid": str(uuid.UUID(int=1)),
    "int": "1",
    "slug": "ipau",
    "str": "ipau",
    "path": "ipau",
}
_PARAMETER = re.compile(r"<(?:(\w+):)?\w+>")


def _addresses(patterns: list[Any], before: str = "/") -> Iterator[str]:
    for one in patterns:
        route = before + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _addresses(one.url_patterns, route)
        elif isinstance(one, URLPattern):
            yield _PARAMETER.sub(lambda match: _VALUES.get(match[1] or "str", "ipau"), route)


def _pages() -> list[str]:
    found = _addresses(get_resolver().url_patterns)
    # Regular expressions of others, the API, and what the administration has.
    kept = (one for one in found if not re.search(r"[\^$(\\]", one))
    return sorted({one for one in kept if not one.startswith(("/v1", "/admin", "/static"))})


def test_no_address_answers_a_browser_with_a_bare_405(client: Client, user: User) -> None:
    client.force_login(user)
    pages = _pages()
    assert len(pages) > 100
    refused, redirected = [], 0
    for page in pages:
        answer = client.get(page)
        refused += [page] if answer.status_code == 405 else []
        redirected += answer.status_code == 302 and page.startswith(answer["Location"])
    assert refused == []
    assert redirected > 30


def test_an_action_leads_to_its_page(client: Client, user: User) -> None:
    client.force_login(user)
    for action, page in [("/apps/ipau/pixelart/run/", "/apps/ipau/pixelart/"), ("/trash/empty/", "/")]:
        assert page_above(action) == page
    answer = client.get("/apps/ipau/pixelart/run/")
    assert (answer.status_code, answer["Location"]) == (302, "/apps/ipau/pixelart/")


def test_programs_still_get_405(client: Client) -> None:
    assert client.get("/v1/quotes").status_code in (401, 405)
    assert client.put("/apps/ipau/pixelart/run/").status_code in (302, 403, 405)


def test_pages_are_compressed_and_files_are_not(client: Client, user: User) -> None:
    client.force_login(user)
    plain = client.get("/apps/")
    packed = client.get("/apps/", headers={"Accept-Encoding": "gzip, br"})
    assert packed["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed["Vary"]
    assert b"IPAU" in gzip.decompress(packed.content)
    assert len(packed.content) < len(plain.content) / 3
    # Its length differs from time to time, so that nobody can guess a secret of the page from it.
    lengths = {len(client.get("/apps/", headers={"Accept-Encoding": "gzip"}).content) for _ in range(12)}
    assert len(lengths) > 3
