"""Page of an app: form, previews, image picker and runs."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from market.listings.services import sync_builtin_listings
from processing.models import Item, Job
from processing.playground import sample_pictures
from processing.previews import channel, rate_limit
from processing.previews.channel import Answer
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.fake_workers import stand_in
from tests.processing.pages.test_params_form import Every
from workers import registry

pytestmark = pytest.mark.django_db
BW = "/apps/ipau/blackwhite/"
KEYS = [operation.key for operation in registry.all_operations()]


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


@pytest.fixture
def preview_worker(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Answer each preview request with «picture»; return the requested recipes."""
    stand_in("preview")
    recipes: list[dict[str, Any]] = []

    def send(request_id: str, key: str, source: object, recipe: dict[str, Any], resources: object) -> bool:
        recipes.append(recipe)
        channel.answer(request_id, key, Answer("image/png", b"picture", 4, 3, texts={"text": "#.#\n"}))
        return True

    monkeypatch.setattr("processing.previews.tasks.send_preview", send)
    return recipes


@pytest.fixture
def every(db: None) -> Iterator[None]:
    with registry.register(Every()):
        sync_builtin_listings()
        yield


def html(response: Any) -> str:
    return str(response.content.decode())


# --- The page.


@pytest.mark.parametrize("key", KEYS)
def test_every_app_has_a_public_page(key: str, client: Client, user: User) -> None:
    operation = registry.get(key)
    upload(user)
    for browser in (Client(), client):
        page = html(browser.get(f"/apps/ipau/{key}/"))
        for name in operation.Params.model_fields:
            assert f'name="{name}"' in page
            assert f'id="id_{name}_help"' in page
        assert "style=" not in page
        assert not re.search(r"\son[a-z]+=", page)


def test_settings_of_every_kind_are_shown(every: None, client: Client, user: User) -> None:
    place = drive.create_folder(owner=user, parent=None, name="Tiles")
    upload(user, folder=place)
    page = html(client.get("/apps/ipau/every/?amount=7&on=false&word=hey&place=" + str(place.pk)))
    assert re.search(r'type="number"\s+id="id_amount"\s+name="amount"\s+value="7"\s+min="1"\s+max="9"', page)
    assert f'<option value="{place.pk}" selected>Tiles (1 image)</option>' in page
    assert 'value="hey"' in page
    assert 'maxlength="5"' in page
    assert 'type="color"' in page
    switch = re.search(r'<input class="form-check-input"[^>]*>', page)
    assert switch is not None
    assert "checked" not in switch.group()


def test_settings_are_in_declaration_order(client: Client) -> None:
    page = html(client.get("/apps/ipau/mosaic/"))
    assert re.findall(r'data-setting="(\w+)"', page) == list(registry.get("mosaic").Params.model_fields)


def test_an_unknown_app_is_not_found(client: Client) -> None:
    assert client.get("/apps/ipau/nothing/").status_code == 404
    assert client.get("/apps/nobody/blackwhite/").status_code == 404


def test_the_page_shows_the_chosen_picture(client: Client, user: User) -> None:
    first, second = upload(user, "a.jpg", seed=1), upload(user, "b.jpg", seed=2)
    page = html(client.get(BW, {"file": str(first.pk)}))
    assert f"/drive/file/{first.pk}/content/" in page
    assert re.search(rf'value="{first.pk}"[^>]*checked', page)
    assert not re.search(rf'value="{second.pk}"[^>]*checked', page)


def test_several_images_become_a_selection(client: Client, user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    page = html(client.get(BW, {"file": [str(f.pk) for f in files]}))
    option = '<option value="selection" data-pictures="3" data-run="Run on 3 images" selected>3 images'
    assert option in page


def test_folder_counts_include_subfolders(client: Client, user: User) -> None:
    top = drive.create_folder(owner=user, parent=None, name="Top")
    below = drive.create_folder(owner=user, parent=top, name="Below")
    upload(user, "a.jpg", folder=below, seed=1)
    upload(user, "b.jpg", folder=top, seed=2)
    page = html(client.get(BW, {"folder": str(top.pk)}))
    option = f'<option value="folder:{top.pk}" data-pictures="2" data-run="Run on 2 images" selected>'
    assert f"{option}Top (2 images)" in page
    assert "Top / Below (1 image)" in page


def test_files_of_other_accounts_are_not_found(client: Client, other_user: User) -> None:
    file = upload(other_user)
    folder = drive.create_folder(owner=other_user, parent=None, name="Mine")
    assert client.get(BW, {"file": str(file.pk)}).status_code == 404
    assert client.get(BW, {"folder": str(folder.pk)}).status_code == 404
    assert client.get(BW, {"selection": "abc"}).status_code == 404
    assert client.post(BW + "preview/", {"file": str(file.pk)}).status_code == 404
    assert client.post(BW + "run/", {"file": str(file.pk)}).status_code == 404
    assert client.post(BW + "run/", {"over": f"folder:{folder.pk}"}).status_code == 404
    assert client.post("/run/", {"file": str(file.pk)}).status_code == 404
    assert not Job.objects.exists()


def test_the_number_of_queries_does_not_depend_on_the_drive(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    upload(user)
    client.get(BW)
    with django_assert_num_queries(10, exact=False) as few:
        client.get(BW)
    for number in range(4):
        folder = drive.create_folder(owner=user, parent=None, name=str(number))
        upload(user, f"{number}.jpg", folder=folder, seed=number)
    with django_assert_num_queries(len(few), exact=True):
        client.get(BW)


# --- Previews.


def test_a_preview_is_an_image(client: Client, user: User, preview_worker: list[dict[str, Any]]) -> None:
    file = upload(user)
    answer = client.post(BW + "preview/", {"file": str(file.pk), "contrast": "40", "finish": "gray"})
    assert (answer.status_code, answer.content, answer["Content-Type"]) == (200, b"picture", "image/png")
    assert answer["X-Preview-Texts"] == "text"
    assert preview_worker[0]["steps"][0]["params"]["contrast"] == 40


def test_the_text_of_a_preview_is_a_separate_request(
    client: Client, user: User, preview_worker: list[dict[str, Any]]
) -> None:
    file = upload(user)
    sent = {"file": str(file.pk), "output": "text"}
    answer = client.post("/apps/ipau/ascii/preview/", sent)
    assert (html(answer), answer["Content-Type"]) == ("#.#\n", "text/plain; charset=utf-8")
    assert client.post("/apps/ipau/ascii/preview/", {**sent, "output": "sound"}).status_code == 422


def test_visitors_can_preview_the_sample(preview_worker: list[dict[str, Any]]) -> None:
    assert Client().post(BW + "preview/", {"sample": "1"}).content == b"picture"


def test_visitors_cannot_preview_a_file(user: User, preview_worker: list[dict[str, Any]]) -> None:
    assert Client().post(BW + "preview/", {"file": str(upload(user).pk)}).status_code == 404


def test_without_a_worker_a_preview_says_so(client: Client, user: User) -> None:
    answer = client.post(BW + "preview/", {"file": str(upload(user).pk)})
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert "No preview worker is running" in answer.json()["detail"]


def test_a_wrong_setting_is_named(client: Client, user: User) -> None:
    answer = client.post(BW + "preview/", {"file": str(upload(user).pk), "contrast": "900"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == {"contrast": "Contrast must be at most 100."}


def test_without_javascript_the_page_contains_the_preview(
    client: Client, user: User, preview_worker: list[dict[str, Any]]
) -> None:
    file = upload(user)
    page = html(client.post(BW + "preview/", {"file": str(file.pk), "contrast": "40", "page": "1"}))
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in page
    assert re.search(r'name="contrast"\s+value="40"', page)


def test_without_javascript_the_page_shows_the_error(client: Client, user: User) -> None:
    sent = {"file": str(upload(user).pk), "contrast": "900", "page": "1"}
    answer = client.post(BW + "preview/", sent)
    assert answer.status_code == 422
    assert "Contrast must be at most 100." in html(answer)
    assert re.search(r'name="contrast"\s+value="900"', html(answer))


def test_previews_are_rate_limited(
    client: Client, user: User, preview_worker: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "SIGNED_IN_A_MINUTE", 2)
    monkeypatch.setattr("processing.previews.rate_limit.time.time", lambda: 1_000_000.0)
    statuses = [client.post(BW + "preview/", {"sample": "1"}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


# --- The picker.


def test_the_picker_searches_by_name(client: Client, user: User, other_user: User) -> None:
    upload(user, "sea.jpg", seed=1)
    upload(user, "cat.jpg", seed=2)
    upload(other_user, "seal.jpg", seed=3)
    found = html(client.get("/apps/pictures/", {"q": "SEA"}))
    assert ("sea.jpg" in found, "cat.jpg" in found, "seal.jpg" in found) == (True, False, False)
    assert "No image in your drive" in html(client.get("/apps/pictures/", {"q": "nothing"}))


def test_images_can_be_uploaded_in_the_picker(client: Client, user: User) -> None:
    def sent() -> dict[str, Any]:
        return {"pictures": SimpleUploadedFile("new.jpg", picture_bytes())}

    fragment = html(client.post(BW + "upload/", sent(), headers={"HX-Request": "true"}))
    file = File.objects.get(owner=user)
    assert re.search(rf'value="{file.pk}"[^>]*checked', fragment)
    answer = client.post(BW + "upload/", sent())
    assert answer.status_code == 303
    assert answer["Location"].startswith(f"{BW}?file=")


def test_a_file_that_is_no_image_is_refused(client: Client) -> None:
    sent = {"pictures": SimpleUploadedFile("new.jpg", b"words")}
    assert client.post(BW + "upload/", sent).status_code == 422
    assert client.post(BW + "upload/", {}).status_code == 422


# --- Running.


def test_a_run_creates_a_job_and_redirects_to_it(client: Client, user: User) -> None:
    file = upload(user)
    answer = client.post(BW + "run/", {"file": str(file.pk), "contrast": "40", "request_key": "k"})
    job = Job.objects.get(owner=user)
    assert (answer.status_code, answer["Location"]) == (302, f"/jobs/{job.pk}/")
    assert job.recipe["steps"][0]["params"]["contrast"] == 40
    assert job.input == {"contrast": 40}
    assert Item.objects.get(job=job).input_file == file


def test_a_double_click_runs_once_and_a_change_runs_again(client: Client, user: User) -> None:
    sent = {"file": str(upload(user).pk), "contrast": "40", "request_key": "k"}
    first, second = client.post(BW + "run/", sent), client.post(BW + "run/", sent)
    assert first["Location"] == second["Location"]
    client.post(BW + "run/", {**sent, "contrast": "41"})
    assert Job.objects.count() == 2


def test_running_over_a_folder_and_over_a_selection(client: Client, user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    files = [upload(user, f"{n}.jpg", folder=folder, seed=n) for n in range(3)]
    client.post(BW + "run/", {"file": str(files[0].pk), "over": f"folder:{folder.pk}"})
    assert Job.objects.get().total == 3
    answer = client.post("/run/", {"file": [str(f.pk) for f in files[:2]]})
    key = answer["Location"].partition("selection=")[2]
    client.post(BW + "run/", {"over": "selection", "selection": key})
    assert Job.objects.order_by("-id")[0].total == 2


def test_the_sample_is_put_into_the_drive_once(client: Client, user: User) -> None:
    for key in "ab":
        assert client.post(BW + "run/", {"sample": "1", "request_key": key}).status_code == 302
    assert File.objects.get(owner=user).name == sample_pictures.NAME
    assert Job.objects.count() == 2


def test_errors_are_shown_on_the_page(client: Client, user: User) -> None:
    answer = client.post(BW + "run/", {"file": str(upload(user).pk), "contrast": "900"})
    assert answer.status_code == 422
    assert "Contrast must be at most 100." in html(answer)
    assert "No image is selected." in html(client.post(BW + "run/", {}))
    assert not Job.objects.exists()


def test_running_needs_signing_in(user: User) -> None:
    answer = Client().post(BW + "run/", {"file": str(upload(user).pk)})
    assert answer["Location"].startswith("/accounts/login/")


def test_an_app_is_chosen_for_a_selection(client: Client, user: User) -> None:
    file = upload(user)
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    answer = client.post("/run/", {"file": str(file.pk), "folder": str(folder.pk)}, follow=True)
    page = html(answer)
    assert "1 image and 1 folder" in page
    assert re.search(r'href="/apps/ipau/blackwhite/\?selection=\w+"', page)
    assert client.get("/run/").status_code == 422


def test_snippets_contain_the_selected_image_and_all_settings(client: Client, user: User) -> None:
    file = upload(user)
    page = html(client.get("/apps/ipau/mosaic/?tab=api&tile=40"))
    assert f"http://testserver/v1/files/{file.pk}" in page
    calls = re.findall(r"<span data-snippet[^>]*>(.*?)</span>", page, re.DOTALL)
    assert len(calls) == 2
    for call in calls:
        assert "&quot;tile&quot;: 40," in call
        assert "&quot;tiles&quot;" not in call
