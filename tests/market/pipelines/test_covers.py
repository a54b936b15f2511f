"""Covers of pipelines: tiles, visibility and number of queries."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from market.covers import CoverMosaic, mosaic_of, with_mosaics
from market.listings import services
from market.models import Listing, Version, Visibility
from tests.market.factories import marks, model
from tests.market.pages.test_covers import add_samples, found
from tests.market.pipelines.factories import pipeline
from tests.market.pipelines.test_model_steps import GREY, keep, step_of
from workers.recipe import Step

pytestmark = pytest.mark.django_db
ALL = [Step(operation=key) for key in ("ascii", "blackwhite", "mosaic", "pixelart")]


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def shown(version: Version, user: Any) -> CoverMosaic:
    rows = with_mosaics(services.with_newest(Listing.objects.all()))
    return mosaic_of(rows.get(pk=version.listing_id), user=user)


def paths(cover: CoverMosaic) -> list[str]:
    return [tile.path.rpartition("/")[2] for tile in cover.tiles]


def test_apps_show_their_covers_each_once_in_order(user: User) -> None:
    pixels = Step(operation="pixelart")
    cover = shown(keep(user, pixels, GREY, pixels), user)
    assert paths(cover) == ["pixelart.jpg", "blackwhite.jpg"]
    assert all(finders.find(tile.path) for tile in cover.tiles)
    assert cover.more == 0


def test_a_cover_shows_four_tiles_or_three_and_a_count(user: User) -> None:
    assert len(shown(keep(user, *ALL), user).tiles) == 4
    cover = shown(keep(user, *ALL, step_of(model(user)), step_of(model(user, "other"))), user)
    assert (len(cover.tiles), cover.more) == (3, 3)


def test_a_model_shows_its_best_sample(user: User) -> None:
    finder = model(user)
    weights = add_samples(finder, [], [found("cat")])
    tile = shown(keep(user, GREY, step_of(finder)), user).tiles[1]
    assert tile.sample == weights.samples.all()[1]


def test_the_tile_of_an_unavailable_model_is_empty(user: User, other_user: User) -> None:
    finder = model(user, publish=True)
    add_samples(finder, [found("cat")])
    version = keep(user, step_of(finder), visibility=Visibility.PUBLIC)
    assert shown(version, None).tiles[0].sample is not None
    Listing.objects.filter(pk=finder.listing_id).update(visibility=Visibility.PRIVATE)
    for person in (None, other_user):
        cover = shown(version, person)
        assert [(tile.path, tile.sample) for tile in cover.tiles] == [("", None)]
    assert shown(version, user).tiles[0].sample is not None


def test_the_tile_of_a_removed_app_is_empty(user: User) -> None:
    version = keep(user, GREY, Step(operation="ascii"))
    version.recipe["steps"][0]["operation"] = "gone"
    version.save()
    assert paths(shown(version, user)) == ["", "ascii.jpg"]


def test_cards_and_own_lists_show_the_cover(user: User, client_of: Callable[[User], Client]) -> None:
    finder = model(user, publish=True)
    sample = add_samples(finder, [found("cat")]).samples.get()
    keep(user, GREY, step_of(finder), visibility=Visibility.PUBLIC)
    client = client_of(user)
    for address in ("/apps/", "/pipelines/"):
        page = client.get(address).content.decode()
        cover = page.partition("ipau-mosaic ")[2].partition("</li>")[0]
        assert "/market/covers/blackwhite" in cover
        assert f'src="/models/samples/{sample.pk}/after.webp"' in cover
    # Visitors get the same bytes.
    answer = Client().get(f"/models/samples/{sample.pk}/after.webp")
    assert b"".join(answer) == b"a picture"
    answer.close()


@pytest.mark.parametrize("address", ["/apps/", "/pipelines/"])
def test_covers_have_a_constant_number_of_queries(
    address: str,
    user: User,
    client_of: Callable[[User], Client],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    models = [model(user, f"m{number}", sure=(90 - number, 5), publish=True) for number in range(4)]
    for one in models:
        add_samples(one, [found("cat")])
    keep(user, GREY, step_of(models[0]), visibility=Visibility.PUBLIC)
    client = client_of(user)
    client.get(address)
    with django_assert_num_queries(8, exact=False) as one_pipeline:
        client.get(address)
    for _ in range(3):
        keep(user, *[step_of(one) for one in models], visibility=Visibility.PUBLIC)
    pipeline(user, "ascii", visibility=Visibility.PUBLIC)
    with django_assert_num_queries(len(one_pipeline)):
        client.get(address)
