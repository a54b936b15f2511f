"""Retry and run again, through the API and the job page."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import services as drive
from drive.files import trash
from drive.files.services import Selection
from drive.models import File
from ipau.common.errors import Invalid
from processing import services
from processing.execution.output_options import Options
from processing.job_queue import job_log
from processing.jobs.manifests import ManifestRow
from processing.models import Item, Job, State
from processing.services import Terms
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns, version
from tests.processing.jobs.test_control import damaged

pytestmark = pytest.mark.django_db


def names(job: Job) -> list[str]:
    return list(Item.objects.filter(job=job).order_by("position").values_list("name", flat=True))


def put_into_trash(user: User, *files: File) -> None:
    trash.trash(owner=user, chosen=Selection(folders=(), files=files))


def again_page(client: Client, job: Job) -> tuple[str, dict[str, list[str]]]:
    answer = client.post(reverse("processing:job-again", args=[job.pk]))
    assert answer.status_code == 302
    return answer["Location"], parse_qs(urlsplit(answer["Location"]).query)


def test_repeat_uses_parameters_options_and_images(user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    rows = [ManifestRow(1, "1.jpg", {"block": 20})]
    terms = Terms(options=Options(format="PNG", quality=80), mail_when_done=True)
    first = submit(user, files, app="pixelart", params={"block": 9}, table=rows, terms=terms)
    again = services.repeat_job(owner=user, job_id=first.pk, params={"colors": 5})
    assert (again.again_of, again.version, again.options) == (first, first.version, first.options)
    assert again.mail_when_done
    assert again.input == {"block": 9, "colors": 5}
    assert names(again) == names(first)
    assert list(Item.objects.filter(job=again).order_by("position").values_list("input", flat=True)) == [
        None,
        {"block": 20},
        None,
    ]
    assert again.output_folder != first.output_folder


def test_missing_files_are_skipped_and_counted(user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(4)]
    first = submit(user, files)
    put_into_trash(user, files[0])
    files[1].delete()
    again = services.repeat_job(owner=user, job_id=first.pk)
    assert names(again) == ["2.jpg", "3.jpg"]
    assert job_log.log_of(again)[0].text == (
        "Submitted with 2 images. 2 images of the earlier job no longer exist and were skipped."
    )
    put_into_trash(user, files[2], files[3])
    with pytest.raises(Invalid, match="None of the images of this job exists any more"):
        services.repeat_job(owner=user, job_id=first.pk)


def test_repeat_keeps_the_folder_structure(user: User) -> None:
    top = drive.create_folder(owner=user, parent=None, name="Summer")
    upload(user, "sea.jpg", folder=top, seed=1)
    first = services.submit_job(
        owner=user,
        version=version(),
        params={},
        selection=Selection(folders=(top,), files=()),
        terms=Terms(options=Options(keep_folders=True)),
    )
    again = services.repeat_job(owner=user, job_id=first.pk)
    assert Item.objects.get(job=again).folder_path == "Summer"


def test_queries_for_earlier_images_do_not_grow(user: User) -> None:
    counts = []
    for number in (2, 12):
        job = submit(user, [upload(user, f"{number} {n}.jpg", seed=n) for n in range(number)])
        with CaptureQueriesContext(connection) as asked:
            assert len(services.earlier_pictures(owner=user, job_id=job.pk).selection) == number
        counts.append(len(asked))
    assert counts[0] == counts[1]


# --- Over the API.


def test_retry_over_the_api(user: User, api: Callable[..., APIClient]) -> None:
    job = submit(user, [damaged(user)])
    take_turns(user)
    answer = api(user).post(f"/v1/jobs/{job.pk}/retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["failed"]) == (200, "starting", 0)
    answer = api(user).post(f"/v1/jobs/{job.pk}/retry")
    assert answer.status_code == 409
    assert "none of its images has failed" in answer.json()["message"]


def test_repeat_over_the_api(user: User, api: Callable[..., APIClient]) -> None:
    job = submit(user, [upload(user, seed=1)], app="pixelart", params={"block": 9})
    client, path = api(user), f"/v1/jobs/{job.pk}/again"
    answer = client.post(path, {"input": {"block": 12}}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert answer.status_code == 201
    made = answer.json()
    assert (made["again_of"], made["input"]["block"], made["total"]) == (str(job.pk), 12, 1)
    same = client.post(path, {"input": {"block": 12}}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert same.json()["id"] == made["id"]
    assert client.post(path).status_code == 201
    assert client.post(path, {"input": {"block": -1}}, format="json").status_code == 422
    assert client.post(path, {"inputs": {}}, format="json").status_code == 422


# --- On the page.


def test_page_retries_or_says_that_nothing_failed(user: User, client_of: Callable[[User], Client]) -> None:
    job = submit(user, [damaged(user)])
    take_turns(user)
    client = client_of(user)
    page = reverse("processing:job", args=[job.pk])
    assert "Retry failed" in client.get(page).content.decode()
    path = reverse("processing:job-retry", args=[job.pk])
    assert "Retrying failed images." in client.post(path, follow=True).content.decode()
    job.refresh_from_db()
    assert job.state == State.STARTING
    answer = client.post(path, follow=True).content.decode()
    assert "there is nothing to retry" in answer
    assert "Retry failed" not in answer


def test_page_offers_to_resume_a_canceled_job(user: User, client_of: Callable[[User], Client]) -> None:
    job = submit(user, [upload(user, seed=1)])
    services.cancel_job(owner=user, job_id=job.pk)
    page = client_of(user).get(reverse("processing:job", args=[job.pk])).content.decode()
    assert "Resume" in page
    assert "Retry failed" not in page
    resumed = client_of(user).post(f"/jobs/{job.pk}/retry/", follow=True)
    assert "The job continues where it stopped." in resumed.content.decode()


def test_app_page_runs_the_earlier_images_again(user: User, client_of: Callable[[User], Client]) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    first = submit(
        user, files, app="pixelart", params={"block": 9}, table=[ManifestRow(1, "1.jpg", {"block": 20})]
    )
    put_into_trash(user, files[2])
    client = client_of(user)
    where, query = again_page(client, first)
    assert query["selection"] == [f"job:{first.pk}"]
    assert query["block"] == ["9"]
    page = client.get(where).content.decode()
    assert "1 image of the earlier job no longer exists and was skipped." in page
    sent = {"over": "selection", "selection": f"job:{first.pk}", "block": "11", "request_key": "k"}
    run = reverse("processing:run", args=["ipau", "pixelart"])
    answer = client.post(run, sent)
    assert answer.status_code == 302
    again = Job.objects.exclude(pk=first.pk).get()
    assert (again.again_of, again.total, again.input["block"]) == (first, 2, 11)
    assert Item.objects.get(job=again, name="1.jpg").input == {"block": 20}
    assert "and was skipped." in job_log.log_of(again)[0].text


def test_more_images_than_a_session_holds_run_again(user: User, client_of: Callable[[User], Client]) -> None:
    file = upload(user, seed=1)
    File.objects.bulk_create(
        File(owner=user, name=f"{n}.jpg", blob=file.blob, content_type="image/jpeg", size=file.size)
        for n in range(1500)
    )
    job = submit(user, File.objects.filter(owner=user).order_by("id"))
    client = client_of(user)
    where, _query = again_page(client, job)
    assert client.get(where).status_code == 200
    sent = {"over": "selection", "selection": f"job:{job.pk}"}
    assert client.post(reverse("processing:run", args=["ipau", "blackwhite"]), sent).status_code == 302
    assert Job.objects.get(again_of=job).total == 1501


def test_job_of_another_account_is_not_a_selection(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    job = submit(other_user, [upload(other_user, f"{n}.jpg", seed=n) for n in range(2)])
    client = client_of(user)
    for path in ("job-retry", "job-again"):
        assert client.post(reverse(f"processing:{path}", args=[job.pk])).status_code == 404
    app = reverse("processing:app", args=["ipau", "blackwhite"])
    assert client.get(app, {"selection": f"job:{job.pk}"}).status_code == 404
    sent = {"over": "selection", "selection": f"job:{job.pk}"}
    assert client.post(reverse("processing:run", args=["ipau", "blackwhite"]), sent).status_code == 404
