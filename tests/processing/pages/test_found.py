"""Detections on the page of an item and in the viewer of the drive."""

import re
from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.files.services import Selection
from drive.files.trash import trash
from processing.models import Item, Job
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.pipelines.test_model_steps import GREY, keep, step_of
from tests.processing.factories import submit, submit_version, take_turns
from tests.processing.reporting.test_detection_filter import Quiet
from workers import registry
from workers.recipe import Step

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def item_page(client: Client, job: Job) -> str:
    answer = client.get(f"/jobs/{job.pk}/items/0/")
    assert answer.status_code == 200
    return answer.content.decode()


def panel_of(page: str) -> str:
    found = re.search(r'<div class="card mb-3"\s+id="found"[^>]*>', page)
    return found[0] if found else ""


def test_detections_are_shown_and_can_be_filtered(client: Client, user: User) -> None:
    job = submit_version(user, model(user), [upload(user)])
    take_turns(user)
    page = item_page(client, job)
    assert "data-narrows" in panel_of(page)
    assert "data-draws" not in panel_of(page)
    assert 'id="found-picture"' in page
    assert "&quot;class&quot;: &quot;cat&quot;" in page
    assert "{#" not in page


def test_detections_without_a_result_image_are_drawn_on_the_original(client: Client, user: User) -> None:
    job = submit_version(user, model(user), [upload(user)])
    take_turns(user)
    item = Item.objects.get(job=job)
    item.outputs.filter(label="image").delete()
    page = item_page(client, job)
    assert "data-narrows" in panel_of(page)
    assert "data-draws" in panel_of(page)
    sources = re.findall(r'id="item-(?:before|after)" src="([^"]+)"', page)
    assert len(sources) == 2
    assert len(set(sources)) == 1


def test_without_the_original_only_data_are_shown(client: Client, user: User) -> None:
    picture = upload(user)
    job = submit_version(user, model(user), [picture])
    take_turns(user)
    trash(owner=user, chosen=Selection(folders=(), files=(picture,)))
    page = item_page(client, job)
    assert panel_of(page)
    assert "data-narrows" not in panel_of(page)
    assert 'id="found-picture"' not in page


def test_detections_of_a_later_step_are_drawn_if_positions_match(client: Client, user: User) -> None:
    job = submit_version(user, keep(user, GREY, step_of(model(user))), [upload(user)])
    take_turns(user)
    page = item_page(client, job)
    assert 'data-over="original"' in panel_of(page)
    assert "data-draws" not in panel_of(page)
    assert "Filtered detections are drawn over the original" in page


def test_detections_at_other_positions_are_only_data(client: Client, user: User) -> None:
    version = keep(user, Step(operation="ascii"), step_of(model(user)))
    job = submit_version(user, version, [upload(user)])
    take_turns(user)
    page = item_page(client, job)
    assert panel_of(page)
    assert "data-narrows" not in panel_of(page)
    assert 'id="found-picture"' not in page
    assert "&quot;class&quot;: &quot;cat&quot;" in page


def test_data_without_an_image_are_drawn_on_the_input_of_the_model(client: Client, user: User) -> None:
    with registry.register(Quiet()):
        quiet = step_of(model(user, family="quiet"))
        job = submit_version(user, keep(user, Step(operation="ascii"), quiet), [upload(user)])
        take_turns(user)
        page = item_page(client, job)
    assert 'data-over="result"' in panel_of(page)
    assert "data-draws" in panel_of(page)
    assert "drawn over the original" not in page


def test_apps_have_no_detections(client: Client, user: User) -> None:
    job = submit(user, [upload(user)])
    take_turns(user)
    assert not panel_of(item_page(client, job))


def test_the_page_takes_few_queries(
    client: Client, user: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    finder = model(user)
    job = submit_version(user, finder, [upload(user)])
    chain = submit_version(user, keep(user, *[GREY] * 3, step_of(finder)), [upload(user, "b.jpg", seed=2)])
    take_turns(user)
    with django_assert_max_num_queries(8):
        item_page(client, job)
    with django_assert_max_num_queries(9):  # what its models do
        item_page(client, chain)


def test_the_viewer_links_a_result_to_its_detections(client: Client, user: User) -> None:
    job = submit_version(user, model(user), [upload(user)])
    plain = submit(user, [upload(user, "plain.jpg", seed=9)])
    take_turns(user)
    link = f'href="/jobs/{job.pk}/items/0/"'
    found = Item.objects.get(job=job).outputs.get(label="image").file
    assert link in client.get(f"/drive/file/{found.pk}/").content.decode()
    other = Item.objects.get(job=plain).outputs.get().file
    assert "/items/0/" not in client.get(f"/drive/file/{other.pk}/").content.decode()
