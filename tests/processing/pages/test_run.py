"""Options and quote of a run on the page of an app, and the table of settings for each image."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from market.models import Listing
from processing.models import Item, Job
from processing.reporting import estimates
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns, version
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db
BW = "/apps/ipau/blackwhite/"


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def html(answer: Any) -> str:
    return str(answer.content.decode())


def pictures(user: User, number: int) -> list[File]:
    return [upload(user, f"{n}.jpg", seed=n) for n in range(number)]


def csv(text: str) -> SimpleUploadedFile:
    return SimpleUploadedFile("own.csv", text.encode(), "text/csv")


# --- Options.


def test_default_options(client: Client, user: User) -> None:
    file = upload(user)
    client.post(BW + "run/", {"file": str(file.pk)})
    job = Job.objects.get()
    assert job.options == {"format": None, "quality": 90, "keep_folders": False, "reuse": True}
    assert (job.deadline_at, job.max_price, job.mail_when_done) == (None, None, False)


def test_options_are_stored_and_applied(client: Client, user: User) -> None:
    file = upload(user, "a.jpg")
    into = drive.create_folder(owner=user, parent=None, name="Prints")
    at = timezone.localtime() + timedelta(hours=2)
    sent = {
        "file": str(file.pk),
        "opt-format": "WEBP",
        "opt-quality": "55",
        "opt-folder": str(into.pk),
        "opt-keep_folders": "on",
        "opt-fresh": "on",
        "opt-mail": "on",
        "opt-deadline": f"{at:%Y-%m-%dT%H:%M}",
    }
    assert client.post(BW + "run/", sent).status_code == 302
    job = Job.objects.get()
    assert job.options == {"format": "WEBP", "quality": 55, "keep_folders": True, "reuse": False}
    assert job.deadline_at == at.replace(second=0, microsecond=0)
    assert (job.output_folder, job.mail_when_done) == (into, True)
    take_turns(user)
    result = File.objects.get(made_by__item__job=job)
    assert (result.name, result.content_type) == ("a.webp", "image/webp")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("opt-quality", "0", "greater than or equal to 1"),
        ("opt-quality", "lots", "whole number"),
        ("opt-format", "GIF", "valid choice"),
        ("opt-folder", "00000000-0000-4000-8000-000000000000", "valid choice"),
        ("opt-deadline", "2001-01-01T10:00", "has passed"),
        ("opt-deadline", "soon", "valid date"),
    ],
)
def test_an_error_is_shown_at_its_option(
    client: Client, user: User, name: str, value: str, words: str
) -> None:
    answer = client.post(BW + "run/", {"file": str(upload(user).pk), name: value})
    assert answer.status_code == 422
    page = html(answer)
    assert words in page
    assert '<details class="mb-3" open>' in page
    assert not Job.objects.exists()


def test_folders_of_other_accounts_are_no_choice(client: Client, user: User, other_user: User) -> None:
    theirs = drive.create_folder(owner=other_user, parent=None, name="Theirs")
    answer = client.post(BW + "run/", {"file": str(upload(user).pk), "opt-folder": str(theirs.pk)})
    assert (answer.status_code, Job.objects.count()) == (422, 0)


def test_a_maximum_price_is_offered_for_paid_models(client: Client, user: User) -> None:
    file = upload(user)
    assert "opt-max_price" not in html(client.get(BW))
    Listing.objects.filter(name="blackwhite").update(price_each=2500)
    assert "opt-max_price" in html(client.get(BW))
    assert "At most 7.5 credits." in html(client.get(BW + "quote/?pictures=3"))
    answer = client.post(BW + "run/", {"file": str(file.pk), "opt-max_price": "2.499"})
    assert "up to 2.5 credits, more than your limit of 2.499" in html(answer)
    assert client.post(BW + "run/", {"file": str(file.pk), "opt-max_price": "2.5"}).status_code == 302


# --- The quote.


def test_the_quote_follows_recent_timings(client: Client, user: User) -> None:
    assert "No worker serves this queue" in html(client.get(BW + "quote/?pictures=3"))
    stand_in("cpu", pids=[1, 2])
    job = submit(user, pictures(user, 2))
    take_turns(user)
    Item.objects.filter(job=job).update(timings={"wait": 99_000, "run": 3_000, "encode": 1_000})
    assert estimates.seconds_each([version().pk]) == {version().pk: 4.0}
    page = html(client.get(BW + "quote/?pictures=10"))
    assert "Free." in page
    assert "about 20 s" in page
    waiting = submit(user, [upload(user, "z.jpg", seed=77)])
    assert estimates.backlog_seconds(waiting.queue) == 4.0


@pytest.mark.parametrize("number", ["", "x", "-4", "9" * 30, "0"])
def test_an_invalid_number_of_images_is_harmless(client: Client, number: str) -> None:
    assert client.get(BW + "quote/", {"pictures": number}).status_code == 200


# --- A table as a file.


def test_a_table_sets_parameters_of_each_image(client: Client, user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    for n in range(3):
        upload(user, f"{n}.jpg", folder=folder, seed=n)
    sent = {"over": f"folder:{folder.pk}", "opt-table": csv("file,contrast\n1.jpg,30\nTrip/2.jpg,\n")}
    assert client.post(BW + "run/", sent).status_code == 302
    recipes = Item.objects.order_by("position").values_list("recipe", flat=True)
    assert [recipe and recipe["steps"][0]["params"]["contrast"] for recipe in recipes] == [None, 30, None]


def test_only_images_in_the_table_run_if_selected(client: Client, user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    for n in range(3):
        upload(user, f"{n}.jpg", folder=folder, seed=n)
    table = csv("file,contrast\n1.jpg,30\n")
    client.post(BW + "run/", {"over": f"folder:{folder.pk}", "opt-table": table, "opt-only_table": "on"})
    assert [item.name for item in Item.objects.all()] == ["1.jpg"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,contrast\n0.jpg,900\n", "Row 2: Contrast must be at most 100."),
        ("file,contrast\nnone.jpg,9\n", "Row 2: “none.jpg” is not one of the selected images."),
        ("file,size\n0.jpg,9\n", "Row 2: there is no parameter “size”."),
        ("picture\n0.jpg\n", "one of them “file”"),
    ],
)
def test_errors_of_a_table_are_shown_on_the_page(client: Client, user: User, table: str, words: str) -> None:
    file = pictures(user, 1)[0]
    answer = client.post(BW + "run/", {"file": str(file.pk), "opt-table": csv(table)})
    assert answer.status_code == 422
    page = html(answer)
    assert words in page
    assert 'id="id_opt-table_error"' in page
    assert not Job.objects.exists()


# --- A table on its page.


def open_table(client: Client, files: list[File], **settings: str) -> str:
    key = client.post("/run/", {"file": [str(f.pk) for f in files]})["Location"].partition("selection=")[2]
    answer = client.post(BW + "table/open/", {"over": "selection", "selection": key, **settings})
    assert answer.status_code == 302
    return str(answer["Location"])


def fields_of(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: value for name, value in found if name != "csrfmiddlewaretoken"}


def test_a_table_is_filled_in_on_its_page(client: Client, user: User) -> None:
    files = pictures(user, 3)
    address = open_table(client, files, contrast="20", **{"opt-format": "PNG"})
    page = html(client.get(address))
    assert page.count("<tr>") == 4
    assert f'name="own.{files[2].pk}.contrast"' in page
    assert 'placeholder="20"' in page
    cells = {f"own.{files[1].pk}.contrast": "55", f"own.{files[2].pk}.method": "average"}
    assert client.post(BW + "run/", {**fields_of(page), **cells}).status_code == 302
    job = Job.objects.get()
    assert (job.total, job.input, job.options["format"]) == (3, {"contrast": 20}, "PNG")
    first, *others = job.items.order_by("position").values_list("recipe", flat=True)
    assert first is None
    second, third = (recipe["steps"][0]["params"] for recipe in others if recipe)
    assert second["contrast"] == 55
    assert (third["method"], third["contrast"]) == ("average", 20)


def test_errors_are_shown_at_their_cells_and_values_are_kept(client: Client, user: User) -> None:
    files = pictures(user, 2)
    page = html(client.get(open_table(client, files)))
    cells = {f"own.{files[0].pk}.contrast": "55", f"own.{files[1].pk}.contrast": "900"}
    answer = client.post(BW + "run/", {**fields_of(page), **cells})
    assert answer.status_code == 422
    page = html(answer)
    assert "Row 2: Contrast must be at most 100." in page
    assert 'value="55"' in page
    assert 'value="900"' in page
    assert not Job.objects.exists()


def test_the_table_can_be_downloaded(client: Client, user: User) -> None:
    files = pictures(user, 2)
    address = open_table(client, files, contrast="20")
    page = html(client.get(address))
    link = re.search(r'href="([^"]+table\.csv[^"]+)"', page)
    assert link
    answer = client.get(link[1].replace("&amp;", "&"))
    assert answer["Content-Type"].startswith("text/csv")
    lines = answer.content.decode("utf-8-sig").splitlines()
    assert lines[0].startswith("file,method,contrast")
    assert [line.partition(",")[0] for line in lines[1:]] == ["0.jpg", "1.jpg"]


def test_a_page_limits_its_rows(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processing.views.parameter_table.MOST_CELLS", 12)
    page = html(client.get(open_table(client, pictures(user, 5))))
    assert page.count("<tr>") == 3
    assert "3 more images are not shown here" in page


def test_tables_of_other_accounts_are_not_found(client: Client, other_user: User) -> None:
    theirs = upload(other_user)
    assert client.get(BW + "table/", {"file": str(theirs.pk)}).status_code == 404
    assert client.get(BW + "table.csv", {"file": str(theirs.pk)}).status_code == 404
    assert client.get(BW + "table/").status_code == 422
