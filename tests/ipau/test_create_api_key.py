"""Tests of `./manage.py create_api_key`."""

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command

from accounts.models import User
from accounts.services import find_api_key

pytestmark = pytest.mark.django_db


def test_makes_a_person_and_prints_only_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", "New@Example.org", name="ci", scopes="read,run")
    printed = capsys.readouterr().out
    key = find_api_key(secret=printed.strip())
    assert printed.count("\n") == 1
    assert key is not None
    assert (key.name, key.scopes, key.user.email) == ("ci", ["read", "run"], "new@example.org")
    assert not key.user.has_usable_password()
    assert EmailAddress.objects.get(user=key.user).verified


def test_uses_the_person_who_is_there(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", user.email.upper())
    key = find_api_key(secret=capsys.readouterr().out.strip())
    assert key is not None
    assert key.user == user
    assert sorted(key.scopes) == ["read", "run", "write"]


@pytest.mark.parametrize("scopes", ["fly", "", "read,fly"])
def test_refuses_unknown_scopes(scopes: str) -> None:
    with pytest.raises(CommandError, match="Valid scopes"):
        call_command("create_api_key", "a@example.org", scopes=scopes)
    assert not User.objects.filter(email="a@example.org").exists()


def test_refuses_what_is_no_address() -> None:
    with pytest.raises(CommandError, match="not an e-mail address"):
        call_command("create_api_key", "nobody")
