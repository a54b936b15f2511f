"""Pages of pipelines: list, editor without JavaScript, sharing, copying, deleting and running."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from market.listings import services as market
from market.models import Listing, Version, Visibility
from market.pipelines.services import delete_pipeline
from processing.models import Job
from processing.previews import channel
from processing.previews import tasks as previews_tasks
from processing.reporting.used_parameters import describe_used
from processing.views import pipelines as views
from tests.drive.factories import upload
from tests.market.pipelines.factories import pipeline
from tests.processing.factories import submit_version
from workers.recipe import Recipe

pytestmark = pytest.mark.django_db
NEW = "/pipelines/new/"


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def html(answer: HttpResponse) -> str:
    return answer.content.decode()


def steps_in(page: str) -> list[str]:
    return re.findall(r'name="step" value="([^"]+)"', page)


def newest(user: User) -> Version:
    return market.latest_version(Listing.objects.select_related("owner").get(owner=user))


TWO = {
    "step": ["s1:pixelart", "s2:blackwhite"],
    "s1.block": "9",
    "s2.contrast": "20",
    "title": "Night comic",
    "summary": "Gray blocks.",
}


# --- The editor.


def test_a_pipeline_is_built_without_javascript(client: Client, user: User) -> None:
    page = html(client.post(NEW, {"do": "add", "app": "pixelart", "title": "Night comic"}))
    assert steps_in(page) == ["s1:pixelart"]
    assert 'value="Night comic"' in page
    sent = {"step": "s1:pixelart", "s1.block": "9", "title": "Night comic"}
    page = html(client.post(NEW, {**sent, "do": "add", "app": "blackwhite"}))
    assert steps_in(page) == ["s1:pixelart", "s2:blackwhite"]
    assert re.search(r'name="s1\.block"\s+value="9"', page)
    page = html(client.post(NEW, {**TWO, "do": "up:s2"}))
    assert steps_in(page) == ["s2:blackwhite", "s1:pixelart"]
    assert "Black and white is now step 1." in page
    page = html(client.post(NEW, {**TWO, "do": "up:s1"}))
    assert steps_in(page) == ["s1:pixelart", "s2:blackwhite"]
    page = html(client.post(NEW, {**TWO, "do": "remove:s1"}))
    assert steps_in(page) == ["s2:blackwhite"]
    assert not Listing.objects.filter(owner=user).exists()
    answer = client.post(NEW, {**TWO, "do": "save"})
    assert (answer.status_code, answer["Location"]) == (302, "/pipelines/night-comic/")
    recipe = newest(user).recipe
    assert [step["operation"] for step in recipe["steps"]] == ["pixelart", "blackwhite"]
    assert (recipe["steps"][0]["params"]["block"], recipe["steps"][1]["params"]["contrast"]) == (9, 20)


def test_errors_are_shown_at_their_step_and_the_draft_is_kept(client: Client, user: User) -> None:
    answer = client.post(NEW, {**TWO, "s2.contrast": "900", "s1.block": "12", "name": "my-comic"})
    page = html(answer)
    assert answer.status_code == 422
    assert "Step 2, Black and white: Contrast must be at most 100." in page
    assert re.search(r'data-error-for="s2.contrast"[^>]*>Contrast must be at most 100\.', page)
    for kept in (r'name="s2\.contrast"\s+value="900"', r'name="s1\.block"\s+value="12"', 'value="my-comic"'):
        assert re.search(kept, page), kept
    assert not Listing.objects.filter(owner=user).exists()


@pytest.mark.parametrize(
    ("sent", "status", "sentence"),
    [
        ({"title": ""}, 422, "Give the pipeline a title."),
        ({"name": "new"}, 422, "The name “new” is reserved."),
        ({"name": "taken"}, 409, "You already have an app, model or pipeline called “taken”."),
        ({"step": []}, 422, "A pipeline needs at least one step."),
        ({"step": ["s1:pixelart", "s2:ghost"]}, 422, "Step 2: there is no app “ghost”."),
        ({"do": "add", "app": "ghost"}, 422, "The app “ghost” does not exist."),
        ({"do": "up:s7"}, 422, "This page sent incomplete data."),
        ({"do": "add", "app": "ascii", "step": [f"s{n}:ascii" for n in range(16)]}, 422, "at most 16 steps"),
        ({"step": [f"s{n}:ascii" for n in range(17)]}, 422, "at most 16 steps. This one has 17."),
        ({"step": ["s1:ascii", "s1:ascii"]}, 422, "This page sent incomplete data."),
        ({"step": ["<b>"]}, 422, "This page sent incomplete data."),
    ],
)
def test_bad_input_gets_an_error(
    sent: dict[str, Any], status: int, sentence: str, client: Client, user: User
) -> None:
    pipeline(user, name="taken")
    answer = client.post(NEW, {**TWO, "do": "save", **sent})
    assert answer.status_code == status
    assert sentence in html(answer)
    assert Listing.objects.filter(owner=user).count() == 1


def test_a_saved_pipeline_is_opened_changed_and_renamed(client: Client, user: User) -> None:
    pipeline(user)
    page = html(client.get("/pipelines/night-comic/"))
    assert steps_in(page) == ["s1:pixelart", "s2:blackwhite"]
    assert re.search(r'name="s2\.contrast"\s+value="20"', page)
    sent = {**TWO, "title": "Dawn", "name": "dawn", "s2.contrast": "30"}
    assert client.post("/pipelines/night-comic/", sent)["Location"] == "/pipelines/dawn/"
    version = newest(user)
    assert (version.number, version.listing.title) == (2, "Dawn")
    assert client.get("/pipelines/night-comic/").status_code == 404


def test_an_app_is_added_with_its_settings(client: Client, user: User) -> None:
    page = html(client.get(NEW, {"add": "blackwhite", "contrast": "33", "finish": "dither"}))
    assert steps_in(page) == ["s1:blackwhite"]
    assert re.search(r'name="s1\.contrast"\s+value="33"', page)
    pipeline(user)
    listed = html(client.get("/pipelines/", {"add": "blackwhite", "contrast": "33"}))
    assert 'href="/pipelines/night-comic/?add=blackwhite&amp;contrast=33"' in listed
    page = html(client.get("/pipelines/night-comic/", {"add": "blackwhite", "contrast": "33"}))
    assert steps_in(page) == ["s1:pixelart", "s2:blackwhite", "s3:blackwhite"]
    assert client.get(NEW, {"add": "ghost"}).status_code == 422


def test_a_step_with_a_missing_app_can_be_removed(client: Client, user: User) -> None:
    listing = pipeline(user)
    version = market.latest_version(listing)
    version.recipe["steps"][1]["operation"] = "ghost"
    version.save()
    page = html(client.get("/pipelines/night-comic/"))
    assert "This app is no longer available." in page
    assert client.get(f"/apps/{user.handle}/night-comic/").status_code == 200
    assert client.get("/pipelines/").status_code == 200
    sent = {**TWO, "step": ["s1:pixelart"], "name": "night-comic"}
    assert client.post("/pipelines/night-comic/", sent).status_code == 302


def test_htmx_gets_only_the_changed_part(client: Client, user: User) -> None:
    answer = client.post(NEW, {**TWO, "do": "down:s1"}, headers={"HX-Request": "true"})
    page = html(answer)
    assert "<html" not in page
    assert steps_in(page) == ["s2:blackwhite", "s1:pixelart"]
    assert page.count('hx-swap-oob="true"') == 2
    answer = client.post(NEW, {**TWO, "do": "add", "app": "ghost"}, headers={"HX-Request": "true"})
    assert (answer.status_code, "The app “ghost” does not exist." in html(answer)) == (200, True)


# --- Previews.


@pytest.fixture
def preview_worker(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Answer previews at once with an image; return the requested operations."""
    requests: list[list[str]] = []

    def send(
        request_id: str, key: str, source: dict[str, str], recipe: dict[str, Any], pictures: Any
    ) -> bool:
        requests.append([step.operation for step in Recipe.model_validate(recipe).steps])
        channel.answer(request_id, key, channel.Answer(content_type="image/png", body=b"picture"))
        return True

    monkeypatch.setattr(previews_tasks, "send_preview", send)
    monkeypatch.setattr("processing.fleet.registry.is_served", {"preview": True, "cpu": True}.get)
    return requests


def test_a_preview_runs_the_steps_up_to_its_step(
    client: Client, user: User, preview_worker: list[list[str]]
) -> None:
    file = upload(user, seed=71)
    sent = {**TWO, "file": str(file.pk)}
    for key in ("s1", "s2", "s1"):
        answer = client.post("/pipelines/preview/", {**sent, "upto": key})
        assert (answer.status_code, answer.content) == (200, b"picture")
    # The last one was cached.
    assert preview_worker == [["pixelart"], ["pixelart", "blackwhite"]]
    client.post(NEW, {**TWO, "do": "save"})
    client.post(f"/apps/{user.handle}/night-comic/preview/", {"file": str(file.pk)})
    assert len(preview_worker) == 2


def test_without_javascript_the_page_contains_every_preview(
    client: Client, preview_worker: list[list[str]]
) -> None:
    page = html(client.post(NEW, {**TWO, "do": "preview"}))
    assert page.count('src="data:image/png;base64,cGljdHVyZQ=="') == 2


def test_a_wrong_step_is_named_in_its_preview(client: Client, preview_worker: list[list[str]]) -> None:
    sent = {**TWO, "s2.contrast": "900"}
    assert client.post("/pipelines/preview/", {**sent, "upto": "s1"}).status_code == 200
    answer = client.post("/pipelines/preview/", {**sent, "upto": "s2"})
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        {"s2.contrast": "Contrast must be at most 100."},
    )
    assert client.post("/pipelines/preview/", {**sent, "upto": "s3"}).status_code == 422


def test_every_step_counts_as_a_preview(
    client: Client, preview_worker: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processing.previews.rate_limit.SIGNED_IN_A_MINUTE", 3)
    monkeypatch.setattr("processing.previews.rate_limit.time.time", lambda: 1_000_000.0)
    assert client.post(NEW, {**TWO, "do": "preview"}).status_code == 200
    assert client.post("/pipelines/preview/", {**TWO, "upto": "s1"}).status_code == 200
    assert client.post("/pipelines/preview/", {**TWO, "upto": "s1"}).status_code == 429
    answer = client.post(NEW, {**TWO, "do": "preview"})
    assert answer.status_code == 429
    assert steps_in(html(answer)) == TWO["step"]


# --- Sharing, copying, deleting.


def test_a_pipeline_is_shared_and_made_private_again(
    client: Client, user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    pipeline(user)
    stranger = client_of(other_user)
    page = f"/apps/{user.handle}/night-comic/"
    assert stranger.get(page).status_code == 404
    assert "Operators of this site can take it down" in html(client.get("/pipelines/night-comic/"))
    assert client.post("/pipelines/night-comic/share/", {"visibility": "public"}).status_code == 302
    assert stranger.get(page).status_code == 200
    assert f'href="{page}"' in html(stranger.get("/apps/"))
    client.post("/pipelines/night-comic/share/", {"visibility": "private"})
    assert f'href="{page}"' not in html(stranger.get("/apps/"))
    assert client.post("/pipelines/night-comic/share/", {"visibility": "all"}).status_code == 422


def test_a_copy_is_private(user: User, other_user: User, client_of: Callable[[User], Client]) -> None:
    pipeline(user, visibility=Visibility.PUBLIC)
    stranger = client_of(other_user)
    answer = stranger.post(f"/pipelines/copy/{user.handle}/night-comic/")
    assert answer["Location"] == "/pipelines/night-comic/"
    assert Listing.objects.get(owner=other_user).visibility == Visibility.PRIVATE


def test_deleting_keeps_jobs(client: Client, user: User) -> None:
    listing = pipeline(user)
    job = submit_version(user, market.latest_version(listing), [upload(user)])
    assert client.post("/pipelines/night-comic/delete/")["Location"] == "/pipelines/"
    assert client.get(f"/apps/{user.handle}/night-comic/").status_code == 404
    told = html(client.get(f"/jobs/{job.pk}/"))
    assert "Night comic" in told
    assert f"/apps/{user.handle}/night-comic/" not in told
    assert client.get("/jobs/").status_code == 200
    assert client.post("/pipelines/night-comic/delete/").status_code == 404


def test_private_pipelines_of_other_accounts_are_not_found(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    pipeline(other_user, title="Secret")
    app = f"/apps/{other_user.handle}/secret/"
    client = client_of(user)
    for address in (app, f"{app}table/", "/pipelines/secret/"):
        assert client.get(address).status_code == 404, address
    sent = {"file": str(upload(user).pk), "visibility": "public", **TWO}
    for address in (
        f"{app}preview/",
        f"{app}run/",
        f"{app}upload/",
        f"/pipelines/copy/{other_user.handle}/secret/",
        "/pipelines/secret/",
        "/pipelines/secret/share/",
        "/pipelines/secret/delete/",
    ):
        assert client.post(address, sent).status_code == 404, address
    for address in ("/apps/", "/pipelines/", "/run/"):
        assert "secret" not in html(client.get(address)), address
    theirs = str(upload(other_user).pk)
    assert client.post("/pipelines/preview/", {**TWO, "upto": "s1", "file": theirs}).status_code == 404
    assert not Job.objects.exists()


def test_pipelines_need_signing_in(user: User) -> None:
    pipeline(user)
    for address in ("/pipelines/", NEW, "/pipelines/night-comic/"):
        assert Client().get(address)["Location"].startswith("/accounts/login/")


def test_the_list_needs_a_constant_number_of_queries(
    client: Client,
    user: User,
    django_assert_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline(user)
    client.get("/pipelines/")
    with django_assert_num_queries(5):  # session, person, pipelines, versions, models of steps
        client.get("/pipelines/")
    for _ in range(3):
        pipeline(user)
    monkeypatch.setattr(views, "PIPELINES_A_PAGE", 2)
    with django_assert_num_queries(5):
        page = html(client.get("/pipelines/"))
    assert page.count(">Night comic</a>") == 2
    following = re.search(r'rel="next"\s+href="([^"]+)"', page)
    assert following is not None
    assert html(client.get("/pipelines/" + following[1])).count(">Night comic</a>") == 2


def test_the_editor_needs_a_constant_number_of_queries(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    pipeline(user, "ascii", title="One")
    pipeline(user, *["ascii", "mosaic"] * 8, title="Many")
    client.get("/pipelines/one/")
    with django_assert_num_queries(12, exact=False) as one:
        client.get("/pipelines/one/")
    with django_assert_num_queries(len(one)):
        client.get("/pipelines/many/")


# --- The pipeline as an app.


def test_a_pipelines_page_groups_its_settings_and_runs(client: Client, user: User) -> None:
    pipeline(user)
    page = html(client.get(f"/apps/{user.handle}/night-comic/", {"pixelart.block": "14"}))
    assert re.findall(r"<legend[^>]*>([^<]+)</legend>", page)[:2] == ["1 · Pixel art", "2 · Black and white"]
    assert re.search(r'name="pixelart\.block"\s+value="14"', page)
    assert "&quot;pixelart.block&quot;: 14" in page  # the call for curl
    sent = {"file": str(upload(user).pk), "pixelart.block": "15", "request_key": "k"}
    assert client.post(f"/apps/{user.handle}/night-comic/run/", sent).status_code == 302
    job = Job.objects.get()
    assert job.recipe["steps"][0]["params"]["block"] == 15
    assert "Night comic" in html(client.get(f"/jobs/{job.pk}/"))
    used = {one["title"]: one["value"] for one in describe_used(job.version.params_schema, job.recipe)}
    assert (used["1 · Pixel art: Pixel size"], used["2 · Black and white: Contrast"]) == ("15 px", "20 %")
    assert "2 · Black and white: Level" not in used


def test_table_and_quote_of_a_pipeline(client: Client, user: User) -> None:
    pipeline(user)
    page = f"/apps/{user.handle}/night-comic/"
    file = upload(user, "sea.jpg")
    table = client.get(f"{page}table.csv", {"file": str(file.pk)})
    heading = b"".join(table) if table.streaming else table.content
    assert b"pixelart.block" in heading.splitlines()[0]
    assert client.get(f"{page}table/", {"file": str(file.pk)}).status_code == 200
    assert client.get(f"{page}quote/", {"pictures": 3}).status_code == 200


def test_an_error_is_shown_at_its_field(client: Client, user: User) -> None:
    pipeline(user)
    sent = {"file": str(upload(user).pk), "blackwhite.contrast": "900"}
    answer = client.post(f"/apps/{user.handle}/night-comic/run/", sent)
    assert answer.status_code == 422
    wanted = r'data-error-for="blackwhite.contrast"[^>]*>Contrast must be at most 100\.'
    assert re.search(wanted, html(answer))


def test_a_deleted_pipeline_is_not_found(client: Client, user: User) -> None:
    pipeline(user)
    delete_pipeline(owner=user, name="night-comic")
    assert client.get(f"/apps/{user.handle}/night-comic/").status_code == 404
