"""Rate limits: too many attempts get 429 and lock out only the client that makes them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from accounts import rate_limits
from accounts.models import User
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
WRONG = "not the password"
CODE_PAGE = "account_email_verification_sent"


@pytest.fixture(autouse=True)
def _land_on_settings(settings: Any) -> None:
    settings.LOGIN_REDIRECT_URL = "/settings/"


@pytest.fixture
def grace() -> User:
    return UserFactory(email="grace@example.org")


def sign_in(client: Client, email: str = "grace@example.org", password: str = WRONG, **more: Any) -> Any:
    return client.post(reverse("account_login"), {"login": email, "password": password}, **more)


def from_address(number: int) -> Client:
    return Client(REMOTE_ADDR=f"198.51.100.{number}")


def assert_refused(answer: HttpResponse) -> None:
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) in (60, 300)
    assert answer["Content-Type"].startswith("text/html")
    page = answer.content.decode()
    assert "Too many attempts. Wait" in page
    assert 'id="main"' in page


def test_25_wrong_passwords_in_a_row(grace: User) -> None:
    answers = [sign_in(Client()) for _ in range(25)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 20
    assert_refused(answers[-1])
    # The correct password gets the same response.
    assert_refused(sign_in(Client(), password=PASSWORD))


def test_one_address_tries_many_accounts() -> None:
    codes = [sign_in(Client(), f"person{n}@example.org").status_code for n in range(12)]
    assert codes == [200] * 10 + [429] * 2


def test_accounts_that_exist_and_that_do_not_are_refused_alike(grace: User) -> None:
    found = []
    for number, email in enumerate(("grace@example.org", "nobody@example.org")):
        client = from_address(number + 1)
        answers = [sign_in(client, email) for _ in range(8)]
        refused = {len(answer.content) for answer in answers if answer.status_code == 429}
        found.append(([(a.status_code, a.get("Retry-After")) for a in answers], refused))
    assert found[0] == found[1]


def test_an_attacker_locks_out_nobody_else(grace: User) -> None:
    stranger = from_address(1)
    assert [sign_in(stranger).status_code for _ in range(9)][-1] == 429
    UserFactory(email="ada@example.org")
    assert sign_in(from_address(2), "ada@example.org", PASSWORD).status_code == 302
    # The attacked account, too.
    assert sign_in(from_address(3), password=PASSWORD).status_code == 302


def test_many_addresses_together_are_slowed_down(grace: User, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed_account": "6/h/key"}
    owner = from_address(200)
    assert sign_in(owner, password=PASSWORD).status_code == 302
    owner.post(reverse("account_logout"))
    codes = [sign_in(from_address(number)).status_code for number in range(8)]
    assert codes == [200] * 6 + [429] * 2
    assert_refused(sign_in(from_address(100), password=PASSWORD))
    # The owner's browser is known.
    assert sign_in(owner, password=PASSWORD).status_code == 302


def test_a_known_browser_has_a_limit_of_its_own(grace: User) -> None:
    owner = from_address(200)
    sign_in(owner, password=PASSWORD)
    owner.post(reverse("account_logout"))
    codes = [sign_in(owner, REMOTE_ADDR=f"203.0.113.{number}").status_code for number in range(7)]
    assert codes == [200] * 5 + [429] * 2
    # It is known for its own account only.
    assert sign_in(owner, "ada@example.org").status_code == 200


@pytest.mark.parametrize("cookie", ["", "x", "e30:1abc:xyz", "other"])
def test_a_forged_cookie_is_worth_nothing(grace: User, settings: Any, cookie: str) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed_account": "2/h/key"}
    if cookie == "other":
        UserFactory(email="ada@example.org")
        theirs = Client()
        sign_in(theirs, "ada@example.org", PASSWORD)
        cookie = theirs.cookies[rate_limits.COOKIE].value
    for number in range(3):
        client = from_address(number)
        client.cookies[rate_limits.COOKIE] = cookie
        answer = sign_in(client)
    assert answer.status_code == 429


def test_successful_sign_ins_are_not_counted(grace: User) -> None:
    for _ in range(12):
        client = Client()
        assert sign_in(client, password=PASSWORD).status_code == 302


def test_a_password_reset_by_email_unlocks_the_account(grace: User, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed_account": "2/h/key"}
    for number in range(3):
        sign_in(from_address(number))
    client = from_address(50)
    assert sign_in(client, password=PASSWORD).status_code == 429
    client.post(reverse("account_reset_password"), {"email": "grace@example.org"})
    link = re.search(r"https?://[^/]+(/\S+)", mail.outbox[-1].body)
    assert link
    page = client.get(link[1], follow=True)
    new = "another long sentence"
    client.post(page.request["PATH_INFO"], {"password1": new, "password2": new})
    assert sign_in(client, password=new).status_code == 302


# --- Forwarded addresses.


@pytest.mark.parametrize("proxies", [0, 1])
def test_a_forged_forwarded_address_evades_no_limit(grace: User, settings: Any, proxies: int) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    # A proxy appends the address that it sees. The client forged the rest.
    tail = ", 198.51.100.7" if proxies else ""
    codes = [
        sign_in(Client(), headers={"X-Forwarded-For": f"10.0.0.{number}{tail}"}).status_code
        for number in range(12)
    ]
    assert codes == [200] * 5 + [429] * 7
    elsewhere = {"X-Forwarded-For": "10.0.0.1, 198.51.100.8"}
    if proxies:
        assert sign_in(Client(), password=PASSWORD, headers=elsewhere).status_code == 302


# --- The other pages.


def test_signing_up(client: Client) -> None:
    answers = [client.post(reverse("account_signup"), {"email": "no"}) for _ in range(21)]
    assert answers[19].status_code == 200
    assert_refused(answers[20])


@pytest.mark.parametrize("email", ["grace@example.org", "nobody@example.org"])
def test_forgotten_passwords(grace: User, email: str) -> None:
    answers = [from_address(n).post(reverse("account_reset_password"), {"email": email}) for n in range(6)]
    assert [answer.status_code for answer in answers] == [302] * 5 + [429]
    assert_refused(answers[-1])
    many = [
        from_address(99).post(reverse("account_reset_password"), {"email": f"p{n}@example.org"})
        for n in range(21)
    ]
    assert_refused(many[-1])


def sign_up(client: Client, email: str) -> None:
    form = {"email": email, "password1": PASSWORD, "password2": PASSWORD}
    assert client.post(reverse("account_signup"), form).status_code == 302


def test_codes_from_an_email() -> None:
    codes = []
    for number in range(6):
        client = Client()
        sign_up(client, f"person{number}@example.org")
        codes += [client.post(reverse(CODE_PAGE), {"code": "WRONG1"}) for _ in range(2)]
    assert [answer.status_code for answer in codes] == [200] * 10 + [429] * 2
    assert_refused(codes[-1])


def test_asking_for_another_code_too_soon(client: Client) -> None:
    sign_up(client, "ada@example.org")
    assert_refused(client.post(reverse(CODE_PAGE), {"action": "resend"}))


def test_the_admin_checks_no_password_itself(grace: User, client: Client) -> None:
    for _ in range(30):
        answer = client.post("/admin/login/", {"username": "grace@example.org", "password": PASSWORD})
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("account_login"))
    assert "_auth_user_id" not in client.session
    for _ in range(6):
        answer = client.post(
            reverse("account_login") + "?next=/admin/", {"login": "a@b.org", "password": "x"}
        )
    assert_refused(answer)


def test_asking_for_the_password_again(grace: User, client_of: Callable[[User], Client]) -> None:
    client = client_of(grace)
    answers = [client.post(reverse("account_reauthenticate"), {"password": WRONG}) for _ in range(11)]
    assert_refused(answers[-1])


def test_the_cookie_is_private(grace: User) -> None:
    client = Client()
    sign_in(client, password=PASSWORD)
    cookie = client.cookies[rate_limits.COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/accounts/"
    assert "grace" not in cookie.value
