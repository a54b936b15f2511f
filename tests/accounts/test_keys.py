"""API keys: shown once, stored as a digest, refused if revoked, expired or without the scope."""

import hashlib
import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts import services
from accounts.models import ApiKey, Scope, User
from accounts.services import create_api_key, find_api_key, revoke_api_key
from ipau.common.errors import Invalid, NotFound
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
URL = "/settings/keys/"
HTMX = {"HX-Request": "true"}


class Endpoint(APIView):
    """Any endpoint: POST requires its declared `scopes`, GET the default."""

    scopes = {"POST": Scope.RUN}

    def get(self, request: Request) -> Response:
        return Response({"handle": request.user.handle})

    def post(self, request: Request) -> Response:
        return Response({})

    def delete(self, request: Request) -> Response:
        return Response({})


def call(method: str, authorization: str | None = None) -> Response:
    headers = {"Authorization": authorization} if authorization else {}
    request = getattr(APIRequestFactory(), method)("/v1/thing", headers=headers)
    response = Endpoint.as_view()(request)
    response.render()
    return response


def shown_secret(page: str) -> str:
    found = re.search(r'id="new-key"[^>]*?value="([^"]+)"', page, re.DOTALL)
    assert found, page
    return html.unescape(found[1])


class TestMaking:
    @pytest.mark.parametrize("headers", [{}, HTMX])
    def test_the_secret_is_shown_once_and_only_its_digest_kept(
        self, user: User, client_of, headers: dict[str, str]
    ) -> None:
        browser: Client = client_of(user)
        form = {"name": "Lab", "scopes": ["read", "run"], "lifetime": "30"}
        response = browser.post(URL, form, headers=headers)
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"]
        secret = shown_secret(response.content.decode())
        key = ApiKey.objects.get()
        assert key.digest == hashlib.sha256(secret.encode()).hexdigest()
        assert secret.startswith(key.prefix)
        assert secret not in json.dumps(ApiKey.objects.values()[0], default=str)
        assert len(secret) > 40
        assert key.scopes == ["read", "run"]
        assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)
        again = browser.get(URL).content.decode()
        assert secret not in again
        assert "Lab" in again

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            ({"name": "", "scopes": ["read"]}, "This field is required"),
            ({"name": "   ", "scopes": ["read"]}, "This field is required"),
            ({"name": "Lab"}, "Choose at least one permission"),
            ({"name": "Lab", "scopes": ["root"]}, "Select a valid choice"),
            ({"name": "Lab", "scopes": ["read"], "lifetime": "-1"}, "Select a valid choice"),
        ],
    )
    def test_an_invalid_form_is_refused(self, user: User, client_of, form: dict[str, Any], text: str) -> None:
        response = client_of(user).post(URL, form)
        assert response.status_code == 200
        assert text in response.content.decode()
        assert not ApiKey.objects.exists()

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            ({"name": " "}, "name"),
            ({"scopes": []}, "scopes"),
            ({"scopes": ["root"]}, "scopes"),
            ({"expires_at": timezone.now() - timedelta(seconds=1)}, "expires_at"),
        ],
    )
    def test_the_service_refuses_the_same(self, user: User, wanted: dict[str, Any], field: str) -> None:
        with pytest.raises(Invalid) as refused:
            create_api_key(user=user, **{"name": "Lab", **wanted})
        assert field in refused.value.fields

    def test_two_keys_differ(self, user: User) -> None:
        secrets = {create_api_key(user=user, name="Lab").secret for _ in range(20)}
        assert len(secrets) == 20


class TestUsing:
    @pytest.mark.parametrize("word", ["Bearer", "bearer", "Token"])
    def test_a_key_signs_in(self, user: User, word: str) -> None:
        key = create_api_key(user=user, name="Lab")
        response = call("get", f"{word} {key.secret}")
        assert response.status_code == 200
        assert response.data == {"handle": user.handle}

    @pytest.mark.parametrize(
        "authorization",
        [None, "Bearer", "Bearer nonsense", "Bearer two words", "Bearer кириллица", "Basic eA=="],
    )
    def test_anything_else_is_401(self, authorization: str | None) -> None:
        encoded = authorization.encode().decode("latin-1") if authorization else None
        response = call("get", encoded)
        assert response.status_code == 401
        assert response["WWW-Authenticate"].startswith("Bearer")
        assert response["Content-Type"] == "application/problem+json"
        assert json.loads(response.content)["status"] == 401

    @pytest.mark.parametrize(
        ("scopes", "allowed"),
        [
            (["read"], {"get"}),
            (["write"], {"delete"}),
            (["run"], {"post"}),
            (["read", "run"], {"get", "post"}),
        ],
    )
    def test_a_missing_scope_is_403_and_named(self, user: User, scopes: list[str], allowed: set[str]) -> None:
        key = create_api_key(user=user, name="Lab", scopes=scopes)
        needed = {"get": "read", "post": "run", "delete": "write"}
        for method, scope in needed.items():
            response = call(method, f"Bearer {key.secret}")
            if method in allowed:
                assert response.status_code == 200
                continue
            assert response.status_code == 403
            assert response["Content-Type"] == "application/problem+json"
            assert scope in json.loads(response.content)["detail"]

    def test_a_revoked_key_is_401_at_once(self, user: User) -> None:
        key = create_api_key(user=user, name="Lab")
        revoke_api_key(user=user, key_id=key.row.pk)
        assert call("get", f"Bearer {key.secret}").status_code == 401

    def test_an_expired_key_is_401(self, user: User) -> None:
        key = create_api_key(user=user, name="Lab", expires_at=timezone.now() + timedelta(hours=1))
        assert call("get", f"Bearer {key.secret}").status_code == 200
        ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert call("get", f"Bearer {key.secret}").status_code == 401

    def test_the_key_of_an_inactive_account_is_401(self, user: User) -> None:
        key = create_api_key(user=user, name="Lab")
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert call("get", f"Bearer {key.secret}").status_code == 401

    def test_its_last_use_is_updated_at_most_once_a_minute(
        self, user: User, django_assert_num_queries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = create_api_key(user=user, name="Lab")
        with django_assert_num_queries(2):  # look up, update
            find_api_key(secret=key.secret)
        first = ApiKey.objects.get().last_used_at
        assert first is not None
        with django_assert_num_queries(1):  # look up
            find_api_key(secret=key.secret)
        assert ApiKey.objects.get().last_used_at == first
        later = first + services.LAST_USED_RESOLUTION + timedelta(seconds=1)
        monkeypatch.setattr(services.timezone, "now", lambda: later)
        find_api_key(secret=key.secret)
        assert ApiKey.objects.get().last_used_at == later


class TestRevoking:
    def test_a_plain_form_goes_back_to_the_list(self, user: User, client_of) -> None:
        key = create_api_key(user=user, name="Lab").row
        response = client_of(user).post(reverse("accounts:key-revoke", args=[key.pk]), follow=True)
        assert response.redirect_chain == [(URL, 302)]
        assert "API key “Lab” revoked." in response.content.decode()
        assert ApiKey.objects.get().revoked_at is not None

    def test_htmx_gets_the_row(self, user: User, client_of) -> None:
        key = create_api_key(user=user, name="Lab").row
        response = client_of(user).post(reverse("accounts:key-revoke", args=[key.pk]), headers=HTMX)
        page = response.content.decode()
        assert page.lstrip().startswith("<li")
        assert "Revoked" in page
        assert "<form" not in page
        assert json.loads(response["HX-Trigger"])["toast"]["text"] == "API key “Lab” revoked."

    def test_revoking_twice_keeps_the_first_time(self, user: User) -> None:
        key = create_api_key(user=user, name="Lab").row
        first = revoke_api_key(user=user, key_id=key.pk).revoked_at
        assert revoke_api_key(user=user, key_id=key.pk).revoked_at == first

    def test_it_needs_a_post(self, user: User, client_of) -> None:
        key = create_api_key(user=user, name="Lab").row
        answer = client_of(user).get(reverse("accounts:key-revoke", args=[key.pk]))
        assert (answer.status_code, answer["Location"]) == (302, "/settings/keys/")
        assert ApiKey.objects.get().revoked_at is None

    @pytest.mark.parametrize("headers", [{}, HTMX])
    def test_another_s_key_is_404(
        self, user: User, other_user: User, client_of, headers: dict[str, str]
    ) -> None:
        key = create_api_key(user=other_user, name="Theirs").row
        url = reverse("accounts:key-revoke", args=[key.pk])
        response = client_of(user).post(url, headers=headers)
        assert response.status_code == 404
        assert "You have no such API key." in response.content.decode()
        assert ("<html" in response.content.decode()) is not bool(headers)
        assert ApiKey.objects.get().revoked_at is None
        with pytest.raises(NotFound):
            revoke_api_key(user=user, key_id=key.pk)


class TestList:
    def test_it_shows_one_s_own_only(self, user: User, other_user: User, client_of) -> None:
        create_api_key(user=user, name="Mine")
        create_api_key(user=other_user, name="Theirs")
        page = client_of(user).get(URL).content.decode()
        assert "Mine" in page
        assert "Theirs" not in page

    def test_its_number_of_queries_does_not_grow(
        self, user: User, client_of, django_assert_num_queries
    ) -> None:
        browser = client_of(user)
        for wanted in (0, 1, 20):
            while user.api_keys.count() < wanted:
                create_api_key(user=user, name="Lab", expires_at=timezone.now() + timedelta(days=1))
            with django_assert_num_queries(3):  # session, user, keys
                browser.get(URL)

    def test_it_is_paged(self, user: User, client_of, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("accounts.views.KEYS_A_PAGE", 2)
        for number in range(3):
            create_api_key(user=user, name=f"Key {number}")
        browser = client_of(user)
        first = browser.get(URL).content.decode()
        assert "Key 2" in first
        assert "Key 0" not in first
        following = re.search(r'rel="next"\s+href="([^"]+)"', first)
        assert following
        second = browser.get(URL + html.unescape(following[1])).content.decode()
        assert "Key 0" in second
        assert "Key 2" not in second

    def test_a_damaged_cursor_is_explained(self, user: User, client_of) -> None:
        response = client_of(user).get(f"{URL}?cursor=nonsense")
        assert response.status_code == 422
        assert "This page link is invalid." in response.content.decode()


def test_every_key_belongs_to_an_account() -> None:
    person = UserFactory()
    create_api_key(user=person, name="Lab")
    assert ApiKey.objects.usable().get().user == person
