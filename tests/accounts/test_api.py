"""Account endpoint, and how keys are sent."""

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key, revoke_api_key

pytestmark = pytest.mark.django_db


def test_the_account_of_the_key(user: User, api: Callable[..., APIClient]) -> None:
    user.name = "Ada"
    user.save()
    assert api(user).get("/v1/account").json() == {
        "type": "user",
        "username": user.handle,
        "name": "Ada",
        "github_url": None,
    }


def test_bearer_and_token_schemes_are_accepted(user: User) -> None:
    key = create_api_key(user=user, name="t")
    client = APIClient()
    for word in ("Bearer", "bearer", "Token"):
        client.credentials(HTTP_AUTHORIZATION=f"{word} {key.secret}")
        assert client.get("/v1/account").status_code == 200
    revoke_api_key(user=user, key_id=key.row.pk)
    assert client.get("/v1/account").status_code == 401


def test_the_key_of_an_inactive_account_is_refused(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.get("/v1/account").status_code == 401
