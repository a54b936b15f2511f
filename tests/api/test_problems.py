"""Errors under /v1 outside of views: URLs, middleware, hosts, tokens, bodies. All are problem+json."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import BadRequest
from django.db import DataError, InterfaceError, OperationalError
from django.test import Client
from pytest_django import Settings
from redis import exceptions as redis
from rest_framework.test import APIClient

from accounts.models import User
from ipau.common.api.outages import outage_of
from tests.api.test_errors import part, problem
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "BREW")
NOWHERE = ("/v1", "/v1/", "/V1", "/V1/files", "//v1/files", "/v1/nothing", "/v1/files/", "/v1//files",
           "/v1/a%00b", "/v1/%ff", "/v1/files/not-an-id", "/v1/" + "x" * 3000)  # fmt: skip


def is_problem(answer: Any, status: int, method: str = "GET") -> None:
    assert answer.status_code == status, answer.content[:200]
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    if method != "HEAD":
        assert int(answer["Content-Length"]) == len(answer.content)
        problem(answer, status)


@pytest.mark.parametrize("path", NOWHERE)
def test_unknown_urls(
    path: str, user: User, api: Callable[..., APIClient], client_of: Callable[[User], Client]
) -> None:
    strict = Client(enforce_csrf_checks=True)
    browser = client_of(user)
    browser.handler.enforce_csrf_checks = True
    for client in (strict, browser, api(user)):
        for method in METHODS:
            # Sent as it is: the client would read two slashes as the start of a host name.
            answer = client.generic(method, "/", PATH_INFO=path.replace("%00", "\0").replace("%ff", "\xff"))
            is_problem(answer, 404, method)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/files/", "/v1/files"),
        ("/v1//files", "/v1/files"),
        ("/V1/jobs/", "/v1/jobs"),
        ("//v1/files", "/v1/files"),
        ("/v1/openapi.json/", "/v1/openapi.json"),
        ("/v1/models/ipau/ascii/", "/v1/models/ipau/ascii"),
        ("/v1/nothing/", ""),
        ("/v1/", ""),
    ],
)
def test_a_misspelled_url_gets_a_suggestion(path: str, meant: str, client: Client) -> None:
    detail = problem(client.generic("POST", "/", PATH_INFO=path), 404)["detail"]
    assert re.findall(r"Did you mean (\S+)\?", detail) == ([meant] if meant else [])


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/healthz", "/readyz"])
def test_a_405_lists_the_allowed_methods(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "QUERY"):
        answer = client.generic(method, path)
        is_problem(answer, 405)
        assert answer["Allow"] == "GET, HEAD"
        assert method in answer.json()["detail"]
    assert client.head(path).status_code == 200


def test_methods_that_a_view_does_not_have(user: User, api: Callable[..., APIClient]) -> None:
    for method in ("PUT", "TRACE", "BREW"):
        answer = api(user).generic(method, "/v1/files")
        is_problem(answer, 405)
        assert "GET" in answer["Allow"]


@pytest.mark.parametrize("is_secure", [False, True])
def test_another_host(settings: Settings, is_secure: bool, user: User, api: Callable[..., APIClient]) -> None:
    settings.SECURE_SSL_REDIRECT = is_secure
    for path in ("/v1/files", "/v1/nothing", "/v1/openapi.json"):
        for method in ("GET", "POST"):
            answer = api(user).generic(method, path, HTTP_HOST="evil.example")
            is_problem(answer, 400)
            assert answer.json()["type"] == "about:blank#wrong_host"
    page = Client().get("/", HTTP_HOST="evil.example")
    assert (page.status_code, page["Content-Type"].split(";")[0]) == (400, "text/html")


def test_plain_http_does_not_change_the_method(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    client = Client()
    moved = client.get("/v1/openapi.json")
    assert (moved.status_code, moved["Location"]) == (301, "https://testserver/v1/openapi.json")
    for method in ("POST", "PATCH", "DELETE", "QUERY"):
        answer = client.generic(method, "/v1/jobs")
        problem(answer, 403)
        assert "Location" not in answer
        assert "https://" in answer.json()["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_session_without_a_csrf_token(user: User, client_of: Callable[[User], Client]) -> None:
    browser = client_of(user)
    browser.handler.enforce_csrf_checks = True
    for method in ("POST", "PATCH", "DELETE"):
        answer = browser.generic(method, "/v1/folders", "{}", "application/json")
        detail = problem(answer, 403)["detail"]
        assert "X-CSRFToken" in detail
        assert "API key" in detail
    browser.cookies["csrftoken"] = "a" * 32
    sent = {"HTTP_X_CSRFTOKEN": "a" * 32, "content_type": "application/json"}
    assert browser.post("/v1/folders", json.dumps({"name": "Day"}), **sent).status_code == 201


def test_forms_that_cannot_be_read(
    user: User,
    api: Callable[..., APIClient],
    client_of: Callable[[User], Client],
    settings: Settings,
) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    browser = client_of(user)
    browser.handler.enforce_csrf_checks = True
    browser.cookies["csrftoken"] = "a" * 32
    many_files = {f"f{n}": part(picture_bytes()) for n in range(5)}
    many_fields = {"content": part(picture_bytes()), **{f"f{n}": "x" for n in range(5)}}
    for client in (api(user), browser):
        for sent in (many_files, many_fields):
            for file in sent.values():
                if hasattr(file, "seek"):
                    file.seek(0)
            answer = client.post("/v1/files", sent, **({} if client is browser else {"format": "multipart"}))
            assert "at most 2" in problem(answer, 413)["detail"]
        for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "é" * 3):
            is_problem(client.generic("POST", "/v1/files", b"junk", kind), 400)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    form = {"content": part(picture_bytes()), "metadata": "x" * 100}
    problem(api(user).post("/v1/files", form, format="multipart"), 413)


def test_other_failures_of_django(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api(user)
    client.raise_request_exception = False
    path = "/v1/files/01890000-0000-7000-8000-000000000000"
    for error, status in [
        (BadRequest("x"), 400),
        (OperationalError("gone"), 503),
        (InterfaceError("closed"), 503),
        (redis.ConnectionError("gone"), 503),
        (redis.ResponseError("MISCONF Redis cannot save"), 503),
        (OSError(28, "No space left on device"), 503),
        (OSError(24, "Too many open files"), 503),
        (OSError(5, "The bucket failed"), 503),
        (redis.ResponseError("WRONGTYPE"), 500),
        (DataError("out of range"), 500),
        (OSError(2, "No such file"), 500),
    ]:

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("drive.files.services.get_file", fail)
        answer = client.get(path)
        is_problem(answer, status)
        assert ("Retry-After" in answer) == (status == 503)
        assert str(error) not in answer.content.decode()
        # Also for failures outside of views.
        monkeypatch.setattr("ipau.common.http.middleware.BodyLimitMiddleware.process_view", fail)
        if status != 400:
            is_problem(client.get(path), status)
        monkeypatch.undo()


def test_error_pages_need_no_database(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Callable[..., Any]
) -> None:
    for error, status, sentence in [
        (OperationalError("gone"), 503, "A part of the site does not answer"),
        (ValueError("a bug"), 500, "Something went wrong on our side"),
    ]:

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("ipau.common.http.middleware.BodyLimitMiddleware.process_view", fail)
        # A client caches its loaded middleware.
        client = Client(raise_request_exception=False)
        with django_assert_num_queries(0):
            answer = client.get("/accounts/login/")
        assert (answer.status_code, "Retry-After" in answer) == (status, status == 503)
        page = answer.content.decode()
        assert page.count(sentence) == 1
        assert f">{status}</p>" in page
        assert "/static/" in page
        assert str(error) not in page
        monkeypatch.undo()


def test_a_too_complex_statement_is_a_bug_and_no_outage() -> None:
    class Cause(Exception):
        sqlstate = "54001"

    error = OperationalError("stack depth limit exceeded")
    error.__cause__ = Cause()
    assert outage_of(error) is None
    assert outage_of(None) is None
    assert outage_of(ValueError()) is None


def test_ranges_that_do_not_exist(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    sent = client.post("/v1/files", {"content": part(picture_bytes(), "a.jpg")}, format="multipart").json()
    answer = client.get(f"/v1/files/{sent['id']}/content", HTTP_RANGE="bytes=99999999-")
    is_problem(answer, 416)
    assert answer["Content-Range"] == f"bytes */{sent['size']}"


def test_accept_headers_do_not_change_problems(user: User, api: Callable[..., APIClient]) -> None:
    for accept in ("text/html", "image/png", "nonsense", "*/*;q=0"):
        is_problem(api(user).get("/v1/nothing", HTTP_ACCEPT=accept), 404)
        assert api(user).get("/v1/account", HTTP_ACCEPT=accept).json()["username"] == user.handle
