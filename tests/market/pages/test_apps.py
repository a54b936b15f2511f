"""Page of apps and shared pipelines."""

import re
from collections.abc import Callable

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from market.covers import cover_of
from market.listings import services
from market.models import Listing, Visibility
from tests.market.pipelines.factories import pipeline
from workers import registry

pytestmark = pytest.mark.django_db


def test_every_operation_is_listed_with_a_cover() -> None:
    page = Client().get("/apps/").content.decode()
    for operation in registry.all_operations():
        assert f'href="/apps/ipau/{operation.key}/"' in page
        listing = Listing.objects.select_related("owner").get(name=operation.key)
        assert finders.find(cover_of(listing))


def test_the_list_runs_two_queries_for_visitors(django_assert_num_queries: DjangoAssertNumQueries) -> None:
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


def test_shared_pipelines_are_paged(
    user: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr("market.views.apps.PIPELINES_A_PAGE", 2)
    for number in range(3):
        pipeline(user, title=f"Shared {number}", visibility=Visibility.PUBLIC)
    pipeline(user, title="Hidden")
    with django_assert_num_queries(4):  # with versions, and the models of steps
        first = Client().get("/apps/").content.decode()
    assert re.findall(r">(Shared \d|Hidden)</a>", first) == ["Shared 2", "Shared 1"]
    following = re.search(r'rel="next"\s+href="([^"]+)"', first)
    assert following is not None
    second = Client().get("/apps/" + following[1]).content.decode()
    assert re.findall(r">(Shared \d|Hidden)</a>", second) == ["Shared 0"]
    assert f"{user.handle}/shared-0" in second


def test_operators_take_a_shared_pipeline_down(user: User, client_of: Callable[[User], Client]) -> None:
    listing = pipeline(user, title="Rude", visibility=Visibility.PUBLIC)
    operator = User.objects.create_superuser("operator@example.org")
    address = f"/admin/market/listing/{listing.pk}/change/"
    sent = {"tier": "basic", "title": "Rude", "summary": "", "visibility": "public", "taken_down": "on"}
    assert client_of(operator).post(address, sent).status_code == 302
    listing.refresh_from_db()
    assert listing.taken_down
    assert "Rude" not in Client().get("/apps/").content.decode()
    assert client_of(user).get(f"/apps/{user.handle}/rude/").status_code == 200
    page = client_of(user).get("/pipelines/rude/").content.decode()
    assert "An operator of this site has taken this pipeline down." in page
