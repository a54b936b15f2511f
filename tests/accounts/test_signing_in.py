"""Sign-up with a code by e-mail, sign-in, and access to the admin."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts.adapter import AccountAdapter
from accounts.models import User
from ipau.common.errors import Conflict
from ipau.common.http import concurrency
from ipau.common.http.concurrency import Limiter
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
CODE_PAGE = "account_email_verification_sent"


@pytest.fixture(autouse=True)
def _land_on_settings(settings: Any) -> None:
    """Redirect sign-ins to the settings page, which needs no other app."""
    settings.LOGIN_REDIRECT_URL = "/settings/"


def sign_up(client: Client, email: str) -> None:
    form = {"email": email, "password1": PASSWORD, "password2": PASSWORD}
    response = client.post(reverse("account_signup"), form)
    assert response.status_code == 302, response.content.decode()
    assert response["Location"] == reverse(CODE_PAGE)


def read_code() -> str:
    found = re.search(r"^\s*([A-Z0-9-]{6,})\s*$", mail.outbox[-1].body, re.MULTILINE)
    assert found, mail.outbox[-1].body
    return found[1]


def is_signed_in(client: Client) -> bool:
    return client.get("/settings/").status_code == 200


def test_a_code_from_the_email_finishes_the_sign_up(client: Client) -> None:
    sign_up(client, "Grace.Hopper@example.org")
    assert not is_signed_in(client)
    assert mail.outbox[-1].to == ["grace.hopper@example.org"]
    response = client.post(reverse(CODE_PAGE), {"code": read_code()})
    assert response.status_code == 302
    assert is_signed_in(client)
    person = User.objects.get(email__istartswith="grace")
    assert (person.email, person.handle) == ("grace.hopper@example.org", "grace-hopper")
    assert EmailAddress.objects.get(user=person).verified


def test_a_wrong_code_is_refused_and_three_end_the_sign_up(client: Client) -> None:
    sign_up(client, "grace@example.org")
    right = read_code()
    first = client.post(reverse(CODE_PAGE), {"code": "WRONG1"})
    assert first.status_code == 200
    assert "is-invalid" in first.content.decode()
    client.post(reverse(CODE_PAGE), {"code": "WRONG2"})
    client.post(reverse(CODE_PAGE), {"code": "WRONG3"})
    client.post(reverse(CODE_PAGE), {"code": right})
    assert not is_signed_in(client)


def test_an_address_in_other_case_is_the_same_account(client: Client) -> None:
    UserFactory(email="grace@example.org")
    sign_up(client, "GRACE@Example.org")
    assert User.objects.filter(email__iexact="grace@example.org").count() == 1
    # The page does not reveal which accounts exist; the e-mail tells the owner.
    assert mail.outbox[-1].to == ["grace@example.org"]
    assert not re.search(r"^\s*[A-Z0-9]{3}-?[A-Z0-9]{3}\s*$", mail.outbox[-1].body, re.MULTILINE)


def test_signing_in_ignores_the_case_of_the_address(client: Client) -> None:
    UserFactory(email="grace@example.org")
    client.post(reverse("account_login"), {"login": "Grace@EXAMPLE.org", "password": PASSWORD})
    assert is_signed_in(client)


def test_a_wrong_password_and_an_unknown_address_get_the_same_error(client: Client) -> None:
    UserFactory(email="grace@example.org")
    pages = [
        client.post(reverse("account_login"), {"login": email, "password": "not the password"})
        for email in ("grace@example.org", "nobody@example.org")
    ]
    errors = [re.findall(r'role="alert">(.*?)</div>', page.content.decode(), re.DOTALL) for page in pages]
    assert [page.status_code for page in pages] == [200, 200]
    assert errors[0] == errors[1]
    assert not is_signed_in(client)


def test_an_inactive_account_cannot_sign_in(client: Client) -> None:
    UserFactory(email="grace@example.org", is_active=False)
    client.post(reverse("account_login"), {"login": "grace@example.org", "password": PASSWORD})
    assert not is_signed_in(client)


def test_similar_addresses_get_distinct_handles() -> None:
    handles = [UserFactory(email=f"ada@{place}.org").handle for place in ("one", "two", "three")]
    assert handles == ["ada", "ada-2", "ada-3"]


def test_a_handle_taken_concurrently_gives_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sign-ups look for a free handle before either is saved."""
    UserFactory(email="ada@one.org", handle="ada")
    answers = iter(["ada", "ada-2"])
    monkeypatch.setattr("accounts.models.UserManager.free_handle", lambda *_: next(answers))
    person = User(email="ada@two.org")
    save(person)
    assert User.objects.get(email="ada@two.org").handle == "ada-2"


def test_an_address_taken_concurrently_is_a_conflict() -> None:
    UserFactory(email="ada@one.org")
    with pytest.raises(Conflict):
        save(User(email="ada@one.org"))


def save(person: User) -> None:
    class Form:
        cleaned_data = {"email": person.email, "password1": PASSWORD}

    AccountAdapter().save_user(None, person, Form())


@pytest.mark.parametrize(
    "name", ["account_login", "account_signup", "account_reset_password", "account_reset_password_done"]
)
def test_pages_without_sign_in_use_the_site_s_layout(client: Client, name: str) -> None:
    page = client.get(reverse(name)).content.decode()
    assert 'id="main"' in page
    assert "container-tight" in page
    assert "<style" not in page


@pytest.mark.parametrize("name", ["account_email", "account_change_password", "account_logout"])
def test_account_pages_use_the_settings_layout(user: User, client_of, name: str) -> None:
    page = client_of(user).get(reverse(name)).content.decode()
    assert reverse("accounts:keys") in page
    assert 'id="main"' in page


def test_a_forgotten_password_is_reset_by_email(client: Client) -> None:
    UserFactory(email="grace@example.org")
    client.post(reverse("account_reset_password"), {"email": "grace@example.org"})
    link = re.search(r"https?://[^/]+(/\S+)", mail.outbox[-1].body)
    assert link
    page = client.get(link[1], follow=True)
    new = "another long sentence"
    client.post(page.request["PATH_INFO"], {"password1": new, "password2": new})
    client.post(reverse("account_login"), {"login": "grace@example.org", "password": new})
    assert is_signed_in(client)


def test_the_admin_redirects_to_the_site_s_sign_in(client: Client) -> None:
    response = client.get("/admin/login/?next=/admin/", follow=False)
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("account_login"))


def test_the_admin_refuses_accounts_that_are_not_staff(user: User, client_of) -> None:
    response = client_of(user).get("/admin/", follow=True)
    assert response.status_code == 403


def test_when_too_many_requests_wait_no_account_lacks_its_email(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow mail server blocks some of the threads, and leaves no sign-up half done."""
    UserFactory(email="ada@example.org")
    form = {"email": "grace@example.org", "password1": PASSWORD, "password2": PASSWORD}
    with monkeypatch.context() as full:
        full.setattr(concurrency, "_limiter", Limiter(total=0, per_person=1))
        for address, sent in (
            ("account_signup", form),
            ("account_reset_password", {"email": "ada@example.org"}),
        ):
            refused = client.post(reverse(address), sent)
            assert (refused.status_code, refused["Retry-After"]) == (503, "2")
            assert "Many requests are waiting" in refused.content.decode()
    assert mail.outbox == []
    assert not User.objects.filter(email=form["email"]).exists()
    sign_up(client, form["email"])
    assert read_code()


def test_a_site_without_a_mail_server_shows_the_code_on_its_page(client: Client, settings: Any) -> None:
    sign_up(client, "grace@example.org")
    assert "no mail server" not in client.get(reverse(CODE_PAGE)).content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    other = Client()
    sign_up(other, "ada@example.org")
    page = other.get(reverse(CODE_PAGE)).content.decode()
    assert "This site has no mail server" in page
    shown = re.search(r"font-monospace\">([A-Z0-9-]{6,})<", page)
    assert shown
    assert other.post(reverse(CODE_PAGE), {"code": shown[1]}).status_code == 302
    assert is_signed_in(other)


def test_an_operator_from_the_command_line_needs_no_code(client: Client, monkeypatch: Any) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", email="root@example.org", interactive=False)
    form = {"login": "root@example.org", "password": PASSWORD}
    assert client.post(reverse("account_login"), form)["Location"] == "/settings/"
    assert EmailAddress.objects.get(email="root@example.org").verified
