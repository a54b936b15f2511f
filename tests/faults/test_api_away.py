"""Tests of the API without PostgreSQL or Valkey: it returns 503 with Retry-After."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from tests.api.test_errors import problem
from tests.drive.factories import upload
from tests.faults.services import OwnServer

pytestmark = pytest.mark.django_db(transaction=True)


def is_away(answer: Any) -> None:
    assert problem(answer, 503)["type"] == "about:blank#unavailable"
    assert int(answer["Retry-After"]) > 0


def quiet(*clients: Client) -> Iterable[Any]:
    for client in clients:
        client.raise_request_exception = False
        yield client


def test_without_the_database(
    postgres: OwnServer, api: Callable[..., APIClient], client_of: Callable[[User], Client]
) -> None:
    user = User.objects.create_user("ada@example.org", "x")
    # A browser with a session, a program with a key, a stranger.
    clients = list(quiet(client_of(user), api(user), APIClient()))
    assert clients[0].get("/v1/account").status_code == 200
    postgres.stop()
    connection.close()
    try:
        for client in clients[:2]:
            for method, path in [
                ("GET", "/v1/account"),
                ("HEAD", "/v1/files"),
                ("GET", "/v1/files"),
                ("POST", "/v1/folders"),
                ("POST", "/v1/uploads"),
                ("POST", "/v1/preview/ascii"),
                ("GET", "/v1/models"),
            ]:
                answer = client.generic(method, path)
                if method == "HEAD":
                    assert answer.status_code == 503
                else:
                    is_away(answer)
        problem(clients[2].get("/v1/account"), 401)
        for client in clients:
            # What needs no database is answered as ever.
            problem(client.post("/v1/nothing"), 404)
            assert client.get("/healthz").status_code == 200
            is_away(client.get("/readyz"))
            assert client.get("/readyz").json()["database"] is False
        page = clients[0].get("/drive/")
        assert (page.status_code, page["Retry-After"]) == (503, "5")
        assert page["Content-Type"].startswith("text/html")
    finally:
        postgres.start()
        connection.close()
    assert clients[0].get("/v1/account").status_code == 200


def test_without_valkey(user: User, valkey: OwnServer, api: Callable[..., APIClient]) -> None:
    file = upload(user)
    [client] = quiet(api(user))
    valkey.stop()
    try:
        for body in ({"file": str(file.pk)}, {"image": str(file.pk)}):
            is_away(client.post("/v1/preview/ascii", body, format="json"))
        # A job needs nobody to be woken at once: the sweep does it.
        sent = {"model": "ipau/ascii", "files": [str(file.pk)]}
        assert client.post("/v1/jobs", sent, format="json").status_code == 201
        is_away(client.get("/readyz"))
        assert client.get("/readyz").json()["redis"] is False
    finally:
        valkey.start()
    assert client.get("/readyz").json()["ready"] is True
