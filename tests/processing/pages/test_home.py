"""Start page: listings for visitors and accounts, and the number of queries."""

from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from market.models import Listing
from processing.views.home import MODELS_SHOWN
from tests.market.factories import marks, model
from tests.market.pages.test_covers import add_samples, found

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def home(client: Client) -> str:
    answer = client.get("/")
    assert answer.status_code == 200
    return str(answer.content.decode())


def link_to(owner: User, name: str) -> str:
    return f'href="/apps/{owner.handle}/{name}/"'


def test_visitors_see_public_models(user: User) -> None:
    telling = add_samples(model(user, "open", publish=True), [found("cat")]).samples.get()
    model(user, "secret")
    model(user, "unsure", publish=True).listing.versions.update(is_confirmed=False)
    model(user, "banned", publish=True)
    Listing.objects.filter(name="banned").update(taken_down=True)
    page = home(Client())
    assert link_to(user, "open") in page
    assert f'src="/models/samples/{telling.pk}/after.webp"' in page
    for name in ("secret", "unsure", "banned"):
        assert link_to(user, name) not in page, name


def test_an_account_sees_its_own_models_too(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    model(user, "mine")
    model(other_user, "open", publish=True)
    model(other_user, "secret")
    page = home(client_of(user))
    assert link_to(user, "mine") in page
    assert link_to(other_user, "open") in page
    assert link_to(other_user, "secret") not in page


def test_the_newest_come_first_with_a_link_to_all(user: User) -> None:
    names = [f"m{number}" for number in range(MODELS_SHOWN + 1)]
    for name in names:
        model(user, name, publish=True)
    page = home(Client())
    places = [page.find(link_to(user, name)) for name in names]
    assert places[0] == -1
    assert places[1:] == sorted(places[1:], reverse=True)
    assert 'href="/models/"' in page


def test_the_page_says_if_there_are_no_models(user: User, client_of: Callable[[User], Client]) -> None:
    for client in (Client(), client_of(user)):
        assert "No models yet" in home(client)
    assert 'href="/models/new/"' in home(client_of(user))
    model(user, publish=True)
    assert "No models yet" not in home(Client())


def test_the_number_of_queries_does_not_depend_on_the_models(
    user: User, client_of: Callable[[User], Client], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    clients = (Client(), client_of(user))
    add_samples(model(user, "first", publish=True), [found("cat")])
    costs = []
    for client in clients:
        home(client)
        with django_assert_num_queries(20, exact=False) as counted:
            home(client)
        costs.append(len(counted))
    for number in range(4):
        add_samples(model(user, f"m{number}", publish=True, sure=(number,) * 2), [found("dog")])
    for client, cost in zip(clients, costs, strict=True):
        with django_assert_num_queries(cost):
            home(client)
