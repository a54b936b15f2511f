"""The list of apps."""

from collections.abc import Callable

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from market import services
from market.covers import cover_of
from market.models import Listing, Visibility
from market.templatetags.market import prose
from workers import registry

pytestmark = pytest.mark.django_db


def test_every_operation_is_listed_with_a_cover() -> None:
    page = Client().get("/apps/").content.decode()
    for operation in registry.all_operations():
        assert f'href="/apps/ipau/{operation.key}/"' in page
        listing = Listing.objects.select_related("owner").get(name=operation.key)
        assert finders.find(cover_of(listing))


def test_the_list_costs_two_queries_for_visitors(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(2):  # the apps, the shared pipelines
        Client().get("/apps/")


def test_a_private_app_is_listed_for_its_owner_only(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    Listing.objects.filter(name="mosaic").update(visibility=Visibility.PRIVATE, owner=user)
    assert "/mosaic/" in client_of(user).get("/apps/").content.decode()
    assert "/mosaic/" not in client_of(other_user).get("/apps/").content.decode()
    assert cover_of(Listing.objects.select_related("owner").get(name="mosaic")) == ""


def test_basic_apps_come_first() -> None:
    tiers = [listing.tier for listing in services.list_apps(user=None)]
    assert tiers == sorted(tiers, reverse=True)


def test_an_empty_market_says_so() -> None:
    Listing.objects.update(visibility=Visibility.PRIVATE)
    assert "There are no apps yet" in Client().get("/apps/").content.decode()


def test_descriptions_are_escaped_but_for_what_they_may_do() -> None:
    assert prose("a **b** `c` <script>\n\nd\ne") == (
        "<p>a <strong>b</strong> <code>c</code> &lt;script&gt;</p><p>d<br>e</p>"
    )
