"""Every error is problem+json with a sentence."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import services as drive
from processing.previews.rate_limit import PreviewThrottle
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
RUN = "/v1/models/ipau/ascii/predictions"


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem in a response, after checking its form."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "message", "instance"} <= set(found)
    assert found["status"] == status
    assert found["detail"] == found["message"] != ""
    return found


def part(data: bytes, name: str = "file") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type="application/octet-stream")


def bomb() -> bytes:
    """Return a PNG of a few kilobytes with 60 megapixels in its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 10_000, 6_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (10_001 * 6_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_unknown_addresses_and_methods(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    for path in ("/v1/", "/v1/nothing", "/v1/files/", "/v1/files/not-an-id", "/v1/jobs/1/items"):
        assert problem(client.get(path), 404)["instance"] == path
    assert "DELETE" in problem(client.delete("/v1/files"), 405)["detail"]
    assert problem(client.put("/v1/jobs"), 405)["title"] == "Method not allowed"


def test_keys(user: User) -> None:
    client = APIClient()
    problem(client.get("/v1/files"), 401)
    client.credentials(HTTP_AUTHORIZATION="Bearer nonsense")
    answer = client.get("/v1/files")
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert "unknown" in problem(answer, 401)["detail"]
    client.credentials(HTTP_AUTHORIZATION="Bearer")
    problem(client.get("/v1/files"), 401)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "",
        "[1, 2]",
        '"text"',
        '{"input": {"image": "\\u0000"}}',
        '{"input": {"image": "\\ud800"}}',
        '{"input": {"image": "x", "size": 1e999}}',
        '{"input": {"image": "x", "size": NaN}}',
        "[" * 100_000,
        '{"input": ' * 2000 + "1" + "}" * 2000,
        '{"input": {"image": "x", "size": ' + "9" * 5000 + "}}",
        b"\xff\xfe",
    ],
    ids=range(12),
)
def test_bodies_that_cannot_be_read(body: str | bytes, user: User, api: Callable[..., APIClient]) -> None:
    answer = api(user).post(RUN, body, content_type="application/json")
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_kinds_of_body(user: User, api: Callable[..., APIClient], settings: Settings) -> None:
    client = api(user)
    problem(client.post(RUN, "a=1", content_type="application/x-www-form-urlencoded"), 415)
    problem(client.post("/v1/files", {"content": "x"}, format="json"), 415)
    problem(client.post("/v1/files", "junk", content_type="multipart/form-data; boundary=x"), 422)
    problem(client.post("/v1/files", "junk", content_type="multipart/form-data"), 400)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem(client.post(RUN, json.dumps({"input": "x" * 2000}), content_type="application/json"), 413)
    settings.UPLOAD_MAX_BYTES = 1000
    problem(client.post("/v1/files", {"content": part(picture_bytes())}, format="multipart"), 413)
    problem(client.post("/v1/files", {"content": part(b"x" * 2**20)}, format="multipart"), 413)


def test_a_body_without_a_length_is_refused(user: User, api: Callable[..., APIClient]) -> None:
    answer = api(user).post("/v1/jobs", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")
    assert "Content-Length" in problem(answer, 411)["detail"]


@pytest.mark.parametrize(
    ("data", "words", "kept"),
    [
        (b"", "empty", "empty"),
        (b"This is no picture at all.", "not an image", "supported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image", "supported"),
        (picture_bytes("PNG")[:20], "damaged", "damaged"),
        (bomb(), "60 megapixels", "60 megapixels"),
    ],
    ids=["empty", "text", "svg", "truncated", "bomb"],
)
def test_files_that_are_no_images(
    data: bytes, words: str, kept: str, user: User, api: Callable[..., APIClient]
) -> None:
    client = api(user)
    sent = problem(client.post("/v1/files", {"content": part(data, "a.jpg")}, format="multipart"), 422)
    assert kept in sent["detail"]
    if data:
        previewed = client.post("/v1/preview/ascii", {"image": part(data)}, format="multipart")
        assert words in problem(previewed, 422)["detail"]
    assert client.get("/v1/files").json()["results"] == []


def test_parameters_by_name(user: User, api: Callable[..., APIClient]) -> None:
    client, file = api(user), str(upload(user).pk)
    wrong = {"input": {"image": file, "columns": 4000, "size": "big", "colums": 1}}
    found = problem(client.post(RUN, wrong, format="json"), 422)
    assert found["errors"] == {
        "columns": "Columns must be at most 400.",
        "size": "size (Character size) must be a whole number.",
        "colums": "There is no parameter “colums”.",
    }
    for given in (
        {},
        {"image": None},
        {"image": 3},
        {"image": ""},
        {"image": "nonsense"},
        {"image": "data:,"},
    ):
        found = problem(client.post(RUN, {"input": given}, format="json"), 422)
        assert found["detail"]
    problem(client.post(RUN, {}, format="json"), 422)
    problem(client.post("/v1/predictions", {"input": {"image": file}}, format="json"), 422)
    with_hook = {"input": {"image": file}, "webhook": "https://169.254.169.254/"}
    errors = problem(client.post(RUN, with_hook, format="json"), 422)["errors"]["webhook"]
    assert "private network" in errors


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/a.jpg",
        "http://127.0.0.1:6379/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/v1/files/01890000-0000-7000-8000-000000000000",
        "http://testserver@evil.example/v1/files/01890000-0000-7000-8000-000000000000",
        "//evil.example/v1/files/01890000-0000-7000-8000-000000000000",
        "file:///etc/passwd",
        "ftp://testserver/v1/files/01890000-0000-7000-8000-000000000000",
        "data:image/png;base64,@@@",
        "data:nothing",
        "http://[broken",
    ],
)
def test_urls_of_other_sites_are_not_fetched(
    address: str, user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api(user)
    client.get("/v1/account")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("A connection was made.")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for path, body in [
        (RUN, {"input": {"image": address}}),
        ("/v1/preview/ascii", {"image": address}),
    ]:
        assert "image" in problem(client.post(path, body, format="json"), 422)["errors"]


def test_invalid_jobs(user: User, api: Callable[..., APIClient]) -> None:
    client, file = api(user), str(upload(user).pk)
    empty = str(drive.create_folder(owner=user, parent=None, name="Empty").pk)
    for body, field in [
        ({"model": "ipau/ascii"}, "files"),
        ({"model": "ipau/ascii", "files": []}, "files"),
        ({"files": [file]}, "model"),
        ({"model": "ipau/ascii", "version": "ipau/ascii", "files": [file]}, "model"),
        ({"model": "ipau/ascii", "files": ["x"]}, "files"),
        ({"model": "ipau/ascii", "file": file}, "file"),
        ({"model": "ipau/ascii", "files": [file], "input": {"columns": 0}}, "columns"),
    ]:
        assert field in problem(client.post("/v1/jobs", body, format="json"), 422)["errors"]
    folder = {"model": "ipau/ascii", "folder": empty}
    assert "No images selected" in problem(client.post("/v1/jobs", folder, format="json"), 422)["detail"]
    for model in ("ipau/nothing", "nobody/ascii", "nonsense", "a/b/c", "ipau/ascii:nonsense", ":", "/"):
        problem(client.post("/v1/jobs", {"model": model, "files": [file]}, format="json"), 404)
    assert client.get("/v1/jobs").json()["results"] == []


def test_a_preview_without_a_worker_fails_at_once(user: User, api: Callable[..., APIClient]) -> None:
    answer = api(user).post("/v1/preview/ascii", {"image": part(picture_bytes())}, format="multipart")
    assert "No preview worker" in problem(answer, 503)["detail"]
    assert int(answer["Retry-After"]) > 0


def test_a_job_without_a_worker_waits_and_says_why(user: User, api: Callable[..., APIClient]) -> None:
    file = upload(user)
    answer = api(user).post("/v1/jobs", {"model": "ipau/ascii", "files": [str(file.pk)]}, format="json")
    assert answer.status_code == 201
    assert answer.json()["status"] == "starting"
    assert "No worker" in answer.json()["logs"]
    assert answer.json()["queue"] == {"name": "cpu", "served": False}


def test_too_many_previews(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreviewThrottle, "THROTTLE_RATES", {"preview": "2/min"})
    client = api(user)
    for _ in range(2):
        problem(client.post("/v1/preview/ascii", {}, format="json"), 422)
    answer = client.post("/v1/preview/ascii", {}, format="json")
    problem(answer, 429)
    assert 0 < int(answer["Retry-After"]) <= 60


def test_an_internal_error_is_a_problem_too(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("drive.files.services.get_file", fail)
    client = api(user)
    client.raise_request_exception = False
    answer = client.get("/v1/files/01890000-0000-7000-8000-000000000000")
    assert "secret" not in problem(answer, 500)["detail"]


@pytest.mark.parametrize(
    "cursor", ["x", "WzEsMl0", "W2ZhbHNlLCJ4Il0", "W2ZhbHNlLCIxIl0", "bnVsbA", "W2ZhbHNlLG51bGxd", "%00", "é"]
)
def test_damaged_cursors(cursor: str, user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    lists = ("files", "folders", "shares", "predictions", "jobs", "models", "models/ipau/ascii/versions")
    orders = ("files?order=name", "files?order=size", "files?trashed=true", "folders?order=name")
    for path in (*lists, *orders):
        answer = client.get(f"/v1/{path}{'&' if '?' in path else '?'}cursor={cursor}")
        if answer.status_code != 200:
            problem(answer, 422)
    problem(client.get("/v1/files?limit=0"), 422)
    problem(client.get("/v1/files?limit=x"), 422)
    problem(client.get("/v1/files?folder=x"), 404)
    problem(client.get("/v1/models?q=%00"), 422)


def test_a_session_needs_a_csrf_token(user: User, client_of: Callable[[User], Client]) -> None:
    browser = client_of(user)
    assert browser.get("/v1/account").json()["username"] == user.handle
    browser.handler.enforce_csrf_checks = True
    answer = browser.post("/v1/folders", json.dumps({"name": "x"}), content_type="application/json")
    assert "CSRF" in problem(answer, 403)["detail"]


def test_metadata_must_be_an_object(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    for text in ("[1]", "{", '{"a": 1e999}', '{"a": "\\u0000"}', '{"a": "' + "x" * 20_000 + '"}'):
        sent = {"content": io.BytesIO(picture_bytes()), "metadata": text}
        assert "metadata" in problem(client.post("/v1/files", sent, format="multipart"), 422)["errors"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("finish", "Grayscale", "finish (Output mode) must be one of: gray, threshold, dither."),
        ("contrast", 101, "Contrast must be at most 100 %."),
        ("contrast", "much", "Contrast must be a whole number."),
        (
            "method",
            "Average",
            "method (Grayscale method) must be one of: rec601, rec709, average, lightness.",
        ),
        ("auto_threshold", "maybe", "auto_threshold (Automatic threshold) must be true or false."),
    ],
)
def test_parameter_errors_use_names_and_values_of_the_api(
    name: str, value: object, sentence: str, user: User, api: Callable[..., APIClient]
) -> None:
    client, file = api(user), str(upload(user).pk)
    path = "/v1/models/ipau/blackwhite/predictions"
    errors = problem(client.post(path, {"input": {"image": file, name: value}}, format="json"), 422)
    assert errors["errors"] == {name: sentence}
