"""Pages of jobs: list, progress, results, canceling and running again."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from processing import services
from processing.execution.output_options import Options
from processing.job_queue import transitions
from processing.models import Job, State
from processing.reporting import progress
from processing.services import Terms
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_chunk, take_turns
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def html(response: Any) -> str:
    return str(response.content.decode())


def make_job(user: User, number: int = 2, **options: Any) -> Job:
    return submit(user, [upload(user, f"p{n}.jpg", seed=n) for n in range(number)], **options)


def broken(user: User, name: str) -> Any:
    whole = picture_bytes(width=800, height=600, seed=2)
    return upload(user, name, data=whole[: len(whole) // 2])


def poll_address(page: str) -> str:
    found = re.search(r'hx-get="([^"]*/progress/[^"]*)"', page)
    assert found is not None
    return found.group(1).replace("&amp;", "&")


# --- One job.


def test_a_waiting_job_says_why(client: Client, user: User) -> None:
    job = make_job(user)
    page = html(client.get(f"/jobs/{job.pk}/"))
    assert "No worker serves this queue" in page
    assert "0 of 2" in page
    stand_in("cpu")
    assert "It starts as soon as a worker is free." in html(client.get(f"/jobs/{job.pk}/"))
    second = submit(user, [upload(user, "last.jpg", seed=9)])
    assert "2 images of yours run first." in html(client.get(f"/jobs/{second.pk}/"))


def test_polling_returns_each_result_once_and_stops_with_the_job(client: Client, user: User) -> None:
    job = make_job(user, 3)
    page = html(client.get(f"/jobs/{job.pk}/"))
    assert 'hx-trigger="every 1s"' in page
    take_chunk(user)
    answer = html(client.get(poll_address(page), headers=HTMX))
    first = set(re.findall(r'id="item-(\d+)"', answer))
    assert first
    take_turns(user)
    seen = set(first)
    if 'hx-trigger="every 1s"' in answer:
        last = html(client.get(poll_address(answer), headers=HTMX))
        new = set(re.findall(r'id="item-(\d+)"', last))
        assert not new & seen
        seen |= new
        answer = last
    assert seen == {"0", "1", "2"}
    assert "every 1s" not in answer
    assert "<title>Succeeded" in answer
    assert 'hx-swap-oob="beforeend:#results"' in answer
    # The details are sent again, because the job now has an end.
    assert "Luma (Rec. 601)" in answer


def test_title_and_bar_show_the_progress(client: Client, user: User) -> None:
    job = make_job(user, 4)
    Job.objects.filter(pk=job.pk).update(
        state=State.PROCESSING, succeeded=1, started_at=timezone.now() - timedelta(seconds=10)
    )
    answer = html(client.get(f"/jobs/{job.pk}/progress/"))
    assert "<title>25 %" in answer
    assert "1 of 4" in answer
    assert "30 s left" in answer
    assert re.search(
        r'<progress class="ipau-progress ipau-progress-processing"\s+value="1"\s+max="4"', answer
    )


def test_failures_are_grouped_by_reason_with_the_names(client: Client, user: User) -> None:
    job = submit(user, [upload(user, "good.jpg", seed=1), broken(user, "x.jpg"), broken(user, "y.jpg")])
    take_turns(user)
    page = html(client.get(f"/jobs/{job.pk}/"))
    assert "2 images failed" in page
    assert page.count("This image is damaged: it ends too early.") == 1
    assert "<li>x.jpg</li>" in page
    assert "<li>y.jpg</li>" in page


def test_the_page_names_the_settings_used(client: Client, user: User) -> None:
    job = make_job(user, 1, params={"contrast": "40", "finish": "dither"})
    page = html(client.get(f"/jobs/{job.pk}/"))
    assert "40 %" in page
    assert "Dither" in page
    assert f"/drive/folder/{job.output_folder_id}/" in page


def test_the_number_of_queries_does_not_depend_on_the_items(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    small, large = make_job(user, 1), None
    take_turns(user)
    with django_assert_num_queries(12, exact=False) as few:
        client.get(f"/jobs/{small.pk}/")
    large = submit(user, [upload(user, f"q{n}.jpg", seed=n) for n in range(6)])
    take_turns(user)
    with django_assert_num_queries(len(few)):
        client.get(f"/jobs/{large.pk}/")


def test_more_results_come_by_cursor(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.results_after, "__kwdefaults__", {"limit": 2})
    job = make_job(user, 5)
    take_turns(user)
    page = html(client.get(f"/jobs/{job.pk}/"))
    seen = re.findall(r'id="item-(\d+)"', page)
    while more := re.search(r'hx-get="([^"]*/results/[^"]*)"', page):
        page = html(client.get(more.group(1), headers=HTMX))
        seen += re.findall(r'id="item-(\d+)"', page)
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert client.get(f"/jobs/{job.pk}/results/").status_code == 200
    assert client.get(f"/jobs/{job.pk}/results/?after=rubbish").status_code == 422


def test_an_item_is_shown_before_and_after(client: Client, user: User) -> None:
    job = make_job(user, 1)
    take_turns(user)
    item = job.items.get()
    output = item.outputs.get()
    for headers in ({}, HTMX):
        page = html(client.get(f"/jobs/{job.pk}/items/0/", headers=headers))
        assert f"/drive/file/{item.input_file_id}/content/" in page
        assert f"/drive/file/{output.file_id}/content/" in page
    assert client.get(f"/jobs/{job.pk}/items/7/").status_code == 404


# --- Canceling and running again.


def test_a_job_is_canceled_and_an_ended_one_is_not(client: Client, user: User) -> None:
    job = make_job(user)
    page = html(client.post(f"/jobs/{job.pk}/cancel/", follow=True))
    assert "Job canceled." in page
    assert "every 1s" not in page
    assert Job.objects.get(pk=job.pk).state == State.CANCELED
    done = submit(user, [upload(user, "done.jpg", seed=7)])
    take_turns(user)
    assert "already ended" in html(client.post(f"/jobs/{done.pk}/cancel/", follow=True))
    assert Job.objects.get(pk=done.pk).state == State.SUCCEEDED


def test_running_again_restores_settings_and_images(client: Client, user: User) -> None:
    one = make_job(user, 1, params={"contrast": "40"})
    answer = client.post(f"/jobs/{one.pk}/again/")
    file = one.items.get().input_file_id
    assert answer["Location"] == f"/apps/ipau/blackwhite/?contrast=40&file={file}"
    three = submit(user, [upload(user, f"r{n}.jpg", seed=n) for n in range(3)])
    page = html(client.post(f"/jobs/{three.pk}/again/", follow=True))
    assert "Run on 3 images" in page


def test_running_again_restores_options(client: Client, user: User) -> None:
    options = Options(format="WEBP", quality=60, keep_folders=True, reuse=False)
    job = make_job(user, 2, terms=Terms(options=options, mail_when_done=True))
    page = html(client.post(f"/jobs/{job.pk}/again/", follow=True))
    assert '<option value="WEBP" selected' in page
    assert re.search(r'name="opt-quality"[^>]*value="60"|value="60"[^>]*name="opt-quality"', page)
    for name in ("keep_folders", "fresh", "mail"):
        assert re.search(rf'<input[^>]*name="opt-{name}"[^>]* checked', page), name
    facts = html(client.get(f"/jobs/{job.pk}/"))
    for words in ("WEBP", "60", "Folder structure", "ignored"):
        assert words in facts
    usual = make_job(user, 1)
    assert "opt-" not in client.post(f"/jobs/{usual.pk}/again/")["Location"]


def test_canceled_items_do_not_count_as_finished(client: Client, user: User) -> None:
    job = make_job(user, 2)
    services.cancel_job(owner=user, job_id=job.pk)
    for address in ("/jobs/", f"/jobs/{job.pk}/"):
        assert "0 of 2" in html(client.get(address))


# --- Jobs of other accounts.


@pytest.mark.parametrize("part", ["", "progress/", "results/", "items/0/"])
def test_jobs_of_other_accounts_are_not_found(client: Client, other_user: User, part: str) -> None:
    job = make_job(other_user, 1)
    assert client.get(f"/jobs/{job.pk}/{part}").status_code == 404


@pytest.mark.parametrize("part", ["cancel/", "again/"])
def test_jobs_of_other_accounts_cannot_be_changed(client: Client, other_user: User, part: str) -> None:
    job = make_job(other_user, 1)
    assert client.post(f"/jobs/{job.pk}/{part}").status_code == 404
    assert Job.objects.get(pk=job.pk).state == State.STARTING


def test_jobs_need_signing_in(user: User) -> None:
    job = make_job(user, 1)
    for address in ("/jobs/", f"/jobs/{job.pk}/", "/run/"):
        assert Client().get(address)["Location"].startswith("/accounts/login/")
    assert Client().get("/jobs/recent/").status_code == 404


# --- The list.


def test_the_list_shows_own_jobs_and_filters_them(client: Client, user: User, other_user: User) -> None:
    open_job, done = make_job(user, 1), submit(user, [upload(user, "b.jpg", seed=5)])
    transitions.cancel(done.pk)
    stranger = make_job(other_user, 1)
    everything = html(client.get("/jobs/"))
    assert str(open_job.pk) in everything
    assert str(done.pk) in everything
    assert str(stranger.pk) not in everything
    assert 'hx-trigger="every 2s"' in everything
    canceled = html(client.get("/jobs/?state=canceled"))
    assert (str(open_job.pk) in canceled, str(done.pk) in canceled) == (False, True)
    assert "every 2s" not in canceled
    assert str(done.pk) not in html(client.get("/jobs/?state=open"))
    assert "No jobs in this state" in html(client.get("/jobs/?state=failed"))


def test_polling_the_list_returns_only_rows(client: Client, user: User) -> None:
    make_job(user, 1)
    fragment = html(client.get("/jobs/", headers=HTMX))
    assert fragment.lstrip().startswith('<div id="jobs"')
    assert "<html" not in fragment


def test_the_list_is_paged(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processing.views.jobs.JOBS_A_PAGE", 2)
    file = upload(user)
    jobs = [submit(user, [file]) for _ in range(3)]
    page = html(client.get("/jobs/"))
    assert str(jobs[0].pk) not in page
    following = re.search(r'rel="next"\s+href="([^"]+)"', page)
    assert following is not None
    assert str(jobs[0].pk) in html(client.get("/jobs/" + following.group(1).replace("&amp;", "&")))


def test_the_number_of_queries_does_not_depend_on_the_list(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    file = upload(user)
    submit(user, [file])
    with django_assert_num_queries(4, exact=False) as few:
        client.get("/jobs/")
    for _ in range(4):
        submit(user, [file])
    with django_assert_num_queries(len(few)):
        client.get("/jobs/")


# --- The start page.


def test_the_start_page_shows_recent_work(client: Client, user: User) -> None:
    empty = html(client.get("/"))
    assert "No jobs yet" in empty
    assert "Your drive is empty" in empty
    job = make_job(user, 1)
    page = html(client.get("/"))
    assert f"/jobs/{job.pk}/" in page
    assert "p0.jpg" in page
    assert 'hx-get="/jobs/recent/"' in page
    take_turns(user)
    assert "every 2s" not in html(client.get("/jobs/recent/"))


def test_visitors_see_the_welcome_page() -> None:
    page = html(Client().get("/"))
    assert "img-comparison-slider" in page
    assert 'href="/accounts/signup/"' in page
    assert 'href="/apps/ipau/mosaic/"' in page


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (200, "3 min"), (7500, "2 h 5 min")]
)
def test_durations_as_text(seconds: float, text: str) -> None:
    assert progress.time_text(seconds) == text


def test_output_folders_have_a_number_suffix(user: User) -> None:
    file = upload(user)
    submit(user, [file])
    second = submit(user, [file])
    assert second.output_folder is not None
    assert re.fullmatch(r"Black and white \d{4}-\d\d-\d\d \d\d-\d\d( \(2\))?", second.output_folder.name)


def test_settings_without_effect_are_not_shown(user: User, client_of: Callable[[User], Client]) -> None:
    job = submit(user, [upload(user)], params={"finish": "gray", "contrast": 7})
    shown = client_of(user).get(f"/jobs/{job.pk}/").content.decode()
    assert "Contrast" in shown
    assert "Floyd" not in shown
