"""End-to-end test of jobs: a pipeline with a table of parameters, a storage failure, and a retry."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from processing.execution import tasks
from processing.models import Item, Job, State
from tests.drive.factories import upload
from tests.live import LiveWorker

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
# A picture whose bytes cannot be read is tried three times, some seconds apart.
PATIENCE = 60.0


def add(page: Page, app: str) -> None:
    page.get_by_label("step").and_(page.locator("select")).select_option(label=app)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#step-list h2").last).to_contain_text(app)


def test_a_pipeline_runs_with_a_table_and_a_failed_picture_is_retried(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    celery_worker()
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    files = [upload(user, f"{number}.jpg", folder=folder, seed=number) for number in range(4)]
    page = signed_in_page(user)

    page.goto("/pipelines/")
    page.get_by_role("link", name="New pipeline").click()
    add(page, "Black and white")
    add(page, "Pixel art")
    page.get_by_label("Title").fill("Gray blocks")
    page.get_by_role("button", name="Save").first.click()
    page.get_by_role("link", name="Run").first.click()

    # The bytes of one picture are away for a while.
    lost = Path(default_storage.path(files[3].blob.path))
    lost.rename(tmp_path / "lost")

    table = tmp_path / "own.csv"
    table.write_text("file,blackwhite.contrast,pixelart.block\n1.jpg,80,\nTrip/2.jpg,,900\n")
    run_over(page, folder.name, table)
    expect(page.locator("#id_opt-table_error")).to_contain_text("Row 3: ")
    assert not Job.objects.exists()

    table.write_text("file,blackwhite.contrast,pixelart.block\n1.jpg,80,\nTrip/2.jpg,,24\n")
    run_over(page, folder.name, table)
    expect(page.locator("#job-state")).to_be_visible()
    job = sweep_until_ended(Job.objects.get(owner=user))
    expect(page.get_by_text("1 image failed")).to_be_visible()
    assert (job.total, job.succeeded, job.failed) == (4, 3, 1)
    assert steps_of(job, 1)[0]["contrast"] == 80
    assert steps_of(job, 2)[1]["block"] == 24
    assert Item.objects.get(job=job, position=0).recipe is None

    (tmp_path / "lost").rename(lost)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#job-state")).to_contain_text("Succeeded", timeout=1000 * PATIENCE)
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 4, 0)
    assert File.objects.filter(made_by__item__job=job).count() == 4

    page.get_by_role("link", name="Images", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_role("link", name="Times").click()
    expect(page.locator("circle")).to_have_count(4)
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_text("Retrying 1 image.")).to_be_visible()


def run_over(page: Page, folder: str, table: Path) -> None:
    page.get_by_label("Run on", exact=True).select_option(label=f"{folder} (4 images)")
    if not page.get_by_label("Settings for each image").is_visible():
        page.get_by_text("More options").click()
    page.get_by_label("Settings for each image").set_input_files(table)
    page.locator("#run").click()


def sweep_until_ended(job: Job) -> Job:
    """Sweep as the site does every few seconds; no schedule runs in a test."""
    ends = time.monotonic() + PATIENCE
    while Job.objects.open().filter(pk=job.pk).exists():
        assert time.monotonic() < ends, "The job does not end."
        tasks.sweep()
        time.sleep(0.5)
    job.refresh_from_db()
    return job


def steps_of(job: Job, position: int) -> list[dict[str, object]]:
    recipe = Item.objects.get(job=job, position=position).recipe
    assert recipe
    return [step["params"] for step in recipe["steps"]]
