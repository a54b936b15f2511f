"""Detail pages of a job: items, CSV, timings and log."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from processing.models import Item, Job
from processing.reporting import progress, stage_timings
from processing.reporting.progress import QueuePosition
from processing.reporting.stage_timings import Point
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def html(answer: Any) -> str:
    return str(answer.content.decode())


@pytest.fixture
def job(user: User) -> Job:
    """A job of three images that succeed, one with a name like a formula, and one that fails."""
    whole = picture_bytes(width=800, height=600)
    files = [upload(user, name, seed=n) for n, name in enumerate(("a.jpg", "b.jpg", "=1+1.jpg"))]
    files.append(upload(user, "broken.jpg", data=whole[: len(whole) // 2]))
    submitted = submit(user, files)
    take_turns(user)
    submitted.refresh_from_db()
    assert (submitted.succeeded, submitted.failed) == (3, 1)
    return submitted


def test_items_are_listed_with_worker_and_stages(job: Job, client: Client) -> None:
    page = html(client.get(f"/jobs/{job.pk}/items/"))
    for words in ("a.jpg", "broken.jpg", "it ends too early", "Decode", "Store", "here"):
        assert words in page
    failed = html(client.get(f"/jobs/{job.pk}/items/?state=failed"))
    assert "broken.jpg" in failed
    assert "a.jpg" not in failed.partition("<tbody>")[2]
    assert "No image of this job" in html(client.get(f"/jobs/{job.pk}/items/?state=canceled"))


def test_own_parameters_are_shown(user: User, client: Client) -> None:
    from processing.jobs.manifests import ManifestRow

    submitted = submit(user, [upload(user, "a.jpg")], table=[ManifestRow(2, "a.jpg", {"contrast": "7"})])
    assert "contrast 7" in html(client.get(f"/jobs/{submitted.pk}/items/"))
    answer = client.get(f"/jobs/{submitted.pk}/items.csv")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    assert next(csv.DictReader(io.StringIO(text)))["settings"] == '{"contrast": "7"}'


def test_stages_are_in_order(job: Job, client: Client) -> None:
    page = html(client.get(f"/jobs/{job.pk}/items/0/"))
    places = [page.index(f">{name} ") for name in ("Wait", "Fetch", "Decode", "Run", "Encode", "Store")]
    assert places == sorted(places)


def test_items_are_paged_in_a_constant_number_of_queries(
    user: User,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    submitted = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(7)])
    monkeypatch.setattr("processing.views.job_details.ITEMS_A_PAGE", 3)
    address, seen = f"/jobs/{submitted.pk}/items/", []
    for _ in range(3):
        with django_assert_max_num_queries(6):
            page = html(client.get(address))
        body = page.partition("<tbody>")[2].partition("</tbody>")[0]
        seen.append(body.count("<tr>"))
        address = f"/jobs/{submitted.pk}/items/?cursor=" + page.partition("cursor=")[2].partition('"')[0]
    assert seen == [3, 3, 1]


def test_everything_comes_as_csv(job: Job, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # Four items take three queries.
    monkeypatch.setattr("processing.views.job_details.CSV_ROWS_A_QUERY", 2)
    answer = client.get(f"/jobs/{job.pk}/items.csv")
    assert answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == ["a.jpg", "b.jpg", "'=1+1.jpg", "broken.jpg"]
    assert [row["status"] for row in rows] == ["succeeded"] * 3 + ["failed"]
    assert float(rows[0]["decode_ms"]) >= 0
    assert int(rows[0]["bytes"]) == Item.objects.get(job=job, position=0).blob.size
    assert rows[3]["error_code"] == "truncated"
    assert rows[3]["run_ms"] == ""


def test_times_are_means_medians_and_shares(job: Job, client: Client) -> None:
    for position, (run, store) in enumerate(((10, 30), (20, 30), (60, 30))):
        Item.objects.filter(job=job, position=position).update(
            timings={"wait": 500, "run": run, "store": store}
        )
    times = stage_timings.times_of(job)
    assert times.sampled == 3
    assert [(s.stage, s.mean, s.median, s.share) for s in times.stages] == [
        ("run", 30, 20, 0.5),
        ("store", 30, 30, 0.5),
    ]
    assert times.wait
    assert (times.wait.mean, times.work) == (500, 60)
    assert sorted(point.spent for point in times.points) == [40, 50, 90]
    page = html(client.get(f"/jobs/{job.pk}/times/"))
    assert page.count("<circle") == 3
    for words in ("Mean work per image: 60.0 ms", "50 %", "Wait in the queue"):
        assert words in page


def test_large_jobs_are_sampled(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(9)])
    take_turns(user)
    monkeypatch.setattr(stage_timings, "MOST_SAMPLED", 3)
    monkeypatch.setattr(stage_timings, "MOST_POINTS", 5)
    times = stage_timings.times_of(Job.objects.get(pk=submitted.pk))
    assert times.sampled == 3
    assert len(times.points) == 5


def test_images_are_grouped_by_size() -> None:
    points = [Point(size, size * 2.0) for size in range(1, 12)]
    groups = stage_timings.bins_of(points)
    assert sum(group.number for group in groups) == 11
    assert (groups[0].least, groups[-1].most) == (1, 11)
    assert [group.spent for group in groups] == sorted(group.spent for group in groups)
    assert stage_timings.bins_of([]) == []


def test_a_waiting_job_has_no_timings(user: User, client: Client) -> None:
    submitted = submit(user, [upload(user)])
    assert "No image has been processed yet" in html(client.get(f"/jobs/{submitted.pk}/times/"))


def test_the_log_lists_events(job: Job, client: Client) -> None:
    page = html(client.get(f"/jobs/{job.pk}/log/"))
    for words in (
        "Submitted with 4 images.",
        "Started",
        "1 image failed",
        "Finished: 3 succeeded, 1 failed.",
    ):
        assert words in page


@pytest.mark.parametrize("path", ["", "items/", "items.csv", "times/", "log/"])
def test_jobs_of_other_accounts_are_not_found(
    job: Job, path: str, other_user: User, client_of: Callable[[User], Client]
) -> None:
    assert client_of(other_user).get(f"/jobs/{job.pk}/{path}").status_code == 404


def test_position_in_the_queue_and_expected_end(user: User, other_user: User, client: Client) -> None:
    stand_in("cpu", pids=[1, 2])
    first = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(2)])
    take_turns(user)
    Item.objects.filter(job=first).update(timings={"run": 10_000})
    mine = submit(user, [upload(user, f"m{n}.jpg", seed=10 + n) for n in range(3)])
    submit(other_user, [upload(other_user, f"o{n}.jpg", seed=20 + n) for n in range(4)])
    last = submit(user, [upload(user, "z.jpg", seed=30)])
    # Each owner has four images, which take 40 slot seconds. There are two slots.
    assert progress.place_of(mine) == QueuePosition(before=0, others=1, seconds=30)
    assert progress.place_of(last) == QueuePosition(before=3, others=1, seconds=40)
    page = html(client.get(f"/jobs/{last.pk}/"))
    assert (
        "3 images of yours run first. You share the queue with 1 other account. Done in about 40 s." in page
    )
