"""Profile: valid handles, handle conflicts, and the settings page."""

import threading
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import RESERVED_HANDLES, User
from accounts.services import update_profile
from ipau.common.errors import Conflict, DomainError, Invalid
from tests.factories import UserFactory

URL = "/settings/"


@pytest.mark.django_db
class TestHandle:
    @pytest.mark.parametrize("handle", ["a", "ada", "ada-lovelace", "a1-2b", "x" * 39, " Ada "])
    def test_a_valid_handle_is_accepted(self, user: User, handle: str) -> None:
        update_profile(user=user, name="", handle=handle)
        user.refresh_from_db()
        assert user.handle == handle.strip().lower()

    @pytest.mark.parametrize(
        "handle", ["", "-ada", "ada-", "a--b", "ada lovelace", "ada_l", "адa", "a/b", "x" * 40, "ada\nx"]
    )
    def test_an_invalid_handle_is_refused(self, user: User, handle: str) -> None:
        before = user.handle
        with pytest.raises(Invalid) as refused:
            update_profile(user=user, name="", handle=handle)
        assert "handle" in refused.value.fields
        user.refresh_from_db()
        assert user.handle == before

    @pytest.mark.parametrize("handle", sorted(RESERVED_HANDLES))
    def test_a_reserved_handle_is_refused(self, user: User, handle: str) -> None:
        with pytest.raises(Conflict):
            update_profile(user=user, name="", handle=handle)

    def test_the_platform_s_own_user_keeps_its_handle(self) -> None:
        platform = User.objects.filter(handle="ipau").first() or UserFactory(handle="ipau")
        update_profile(user=platform, name="IPAU", handle="ipau")
        assert User.objects.get(handle="ipau").name == "IPAU"

    def test_a_taken_handle_is_refused_ignoring_case(self, user: User, other_user: User) -> None:
        with pytest.raises(Conflict) as refused:
            update_profile(user=user, name="New", handle=other_user.handle.upper())
        assert "handle" in refused.value.fields
        # The page goes on with this object, so it must hold the stored values.
        assert user.handle != other_user.handle
        assert user.name == ""


@pytest.mark.django_db(transaction=True)
def test_one_of_many_concurrent_requests_gets_the_handle() -> None:
    people = [UserFactory() for _ in range(4)]
    start = threading.Barrier(len(people))
    outcomes: list[str] = []

    def ask(person: User) -> None:
        try:
            start.wait(10)
            update_profile(user=person, name="", handle="wanted")
            outcomes.append("got it")
        except DomainError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["conflict", "conflict", "conflict", "got it"]
    assert User.objects.filter(handle="wanted").count() == 1


@pytest.mark.django_db
class TestPage:
    def test_it_requires_sign_in(self, client: Client) -> None:
        response = client.get(URL)
        assert response.status_code == 302
        assert response["Location"] == f"{reverse('account_login')}?next={URL}"

    def test_a_plain_form_saves_and_shows_a_message(self, user: User, client_of) -> None:
        response = client_of(user).post(URL, {"name": "Ada <b>", "handle": "ada"}, follow=True)
        assert response.redirect_chain == [(URL, 302)]
        page = response.content.decode()
        assert "Profile saved." in page
        assert "Ada &lt;b&gt;" in page
        assert User.objects.get(pk=user.pk).handle == "ada"

    def test_htmx_gets_the_form_and_a_toast(self, user: User, client_of) -> None:
        response = client_of(user).post(URL, {"name": "Ada", "handle": "ADA"}, headers={"HX-Request": "true"})
        assert response.status_code == 200
        assert "<html" not in response.content.decode()
        assert 'value="ada"' in response.content.decode()
        assert "Profile saved." in response["HX-Trigger"]

    @pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
    def test_an_error_is_shown_at_its_field(
        self, user: User, other_user: User, client_of, headers: dict[str, str]
    ) -> None:
        response = client_of(user).post(URL, {"name": "", "handle": other_user.handle}, headers=headers)
        assert response.status_code == 200
        assert "This handle is taken." in response.content.decode()
        assert "HX-Trigger" not in response.headers

    def test_its_number_of_queries_is_constant(
        self, user: User, client_of, django_assert_num_queries
    ) -> None:
        browser = client_of(user)
        with django_assert_num_queries(2):  # session, user
            browser.get(URL)

    @pytest.mark.parametrize("method", ["put", "delete", "patch"])
    def test_other_methods_are_refused(self, user: User, client_of, method: str) -> None:
        assert getattr(client_of(user), method)(URL).status_code == 405

    def test_an_unknown_page_is_a_real_404(self, user: User, client_of) -> None:
        response = client_of(user).get(f"/{uuid4()}/")
        assert response.status_code == 404
        assert "This page does not exist" in response.content.decode()
