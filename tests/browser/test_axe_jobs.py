"""Accessibility tests of the job pages, as in `test_axe`."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from accounts.models import User
from drive.uploads import work
from processing import services
from tests.browser.test_axe import problems
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.market.pipelines.factories import pipeline
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_pages_of_a_job(user: User, signed_in_page: Callable[..., Page]) -> None:
    whole = picture_bytes(width=800, height=600)
    files = [upload(user, "sea.jpg", seed=1), upload(user, "damaged.jpg", data=whole[: len(whole) // 2])]
    work.inspect_uploads(user.pk)
    job = submit(user, files)
    take_turns(user)
    waiting = submit(user, files, params={"contrast": "7"})
    canceled = submit(user, files, params={"contrast": "8"})
    services.cancel_job(owner=user, job_id=canceled.pk)
    pages = [f"/jobs/{job.pk}/{part}" for part in ("items/", "items/0/", "items/1/", "times/", "log/")]
    pages += [f"/jobs/{waiting.pk}/", f"/jobs/{waiting.pk}/times/", f"/jobs/{canceled.pk}/"]
    found = problems(signed_in_page(user), [*pages, "/jobs/", "/jobs/?state=failed"])
    assert not found, "\n".join(found)


def test_pages_before_a_job(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker(queues="preview")
    page = signed_in_page(user)
    empty = problems(page, ["/pipelines/", "/settings/webhooks/"])
    assert not empty, "\n".join(empty)
    upload(user, "sea.jpg", seed=1)
    work.inspect_uploads(user.pk)
    made = pipeline(user)
    pages = ["/pipelines/", f"/pipelines/{made.name}/", f"/apps/{user.handle}/{made.name}/"]
    found = problems(page, [*pages, "/apps/ipau/pixelart/?opt-format=WEBP"])
    assert not found, "\n".join(found)
