"""Test of a direct upload from a real browser to a real bucket, checked by a real worker."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from accounts.models import User
from drive.models import File, Upload
from tests.drive.storage.buckets import BUCKET, keys
from tests.factories import UserFactory
from tests.live import LiveWorker
from tests.pictures import picture_bytes

if TYPE_CHECKING:
    from drive.storage.s3 import BucketStorage

pytestmark = [pytest.mark.browser, pytest.mark.worker, pytest.mark.django_db(transaction=True)]
MB = 2**20
PARTS = re.compile(r"partNumber=")
# In milliseconds. Parts of some megabytes pass through the driver of the browser, too.
PATIENCE = 90_000


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


@pytest.fixture(autouse=True)
def _offered(bucket: BucketStorage, endpoint: str, settings: Any) -> None:
    settings.S3_DIRECT = True
    directives = dict(settings.CONTENT_SECURITY_POLICY["DIRECTIVES"])
    for name in ("connect-src", "img-src"):
        directives[name] = [*directives[name], endpoint]
    settings.CONTENT_SECURITY_POLICY = {**settings.CONTENT_SECURITY_POLICY, "DIRECTIVES": directives}


@pytest.fixture
def worker(celery_worker: Callable[..., LiveWorker], endpoint: str) -> Callable[[], LiveWorker]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    return lambda: celery_worker(
        queues="background", IPAU_S3_BUCKET=BUCKET, IPAU_S3_ENDPOINT=endpoint, **keys
    )


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A picture of 24 MB and a bit: four parts."""
    path = tmp_path / "film.png"
    data = picture_bytes("PNG", 300, 200, seed=5)
    path.write_bytes(data + b"\0" * (24 * MB + 12345 - len(data)))
    return path


def row(page: Page, name: str) -> Locator:
    return page.locator(".drive-tray-row", has_text=name)


def choose(page: Page, path: Path) -> None:
    page.locator("#drive-upload [type=file]").set_input_files(path)


def test_a_large_file_arrives_though_the_connection_was_lost(
    user: User,
    signed_in_page: Callable[..., Page],
    worker: Callable[[], LiveWorker],
    bucket: BucketStorage,
    film: Path,
) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    let_through: list[str] = []
    asked: list[str] = []

    def fragile(route: Route) -> None:
        if len(let_through) < 1:
            let_through.append(route.request.url)
            route.continue_()
        else:
            route.abort()

    page.on("request", lambda request: asked.append(request.url))
    page.route(PARTS, fragile)
    choose(page, film)
    expect(row(page, "film.png")).to_contain_text("Retrying…", timeout=PATIENCE)
    page.unroute(PARTS)
    # Nobody checks it yet, and the tray says that it waits for that.
    expect(row(page, "film.png")).to_contain_text("Checking…", timeout=PATIENCE)
    expect(row(page, "film.png").get_by_role("button", name="Pause")).to_be_hidden()
    assert not File.objects.exists()
    worker()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded", timeout=PATIENCE)
    expect(page.locator(".drive-file", has_text="film.png")).to_be_visible()

    file = File.objects.get()
    assert file.blob_id == hashlib.sha256(film.read_bytes()).hexdigest()
    assert not any(name.startswith("incoming/") for name in keys(bucket))
    # No byte of it went through the site, and what had arrived was not sent again.
    assert not any("/v1/uploads" in url for url in asked)
    sent = [url for url in asked if re.search(r"partNumber=\d+", url)]
    first = re.search(r"partNumber=\d+", let_through[0])
    assert first is not None
    assert sum(first[0] in url for url in sent) == 1


def test_the_same_file_goes_on_after_a_reload_and_a_pause(
    user: User, signed_in_page: Callable[..., Page], worker: Callable[[], LiveWorker], film: Path
) -> None:
    worker()
    page = signed_in_page(user)
    page.goto("/drive/")
    page.on("dialog", lambda dialog: dialog.accept())
    last = re.compile(r"partNumber=4")
    page.route(last, lambda route: route.abort())
    choose(page, film)
    expect(row(page, "film.png")).to_contain_text("Retrying…", timeout=PATIENCE)
    begun = Upload.objects.get()
    page.reload()
    again: list[str] = []
    page.on("request", lambda request: PARTS.search(request.url) and again.append(request.url))
    choose(page, film)
    expect(row(page, "film.png")).to_contain_text("Retrying…", timeout=PATIENCE)
    page.get_by_role("button", name="Pause all").click()
    expect(row(page, "film.png")).to_contain_text("Paused")
    page.unroute(last)
    row(page, "film.png").get_by_role("button", name="Resume").click()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded", timeout=PATIENCE)
    assert Upload.objects.get().pk == begun.pk
    assert all(last.search(url) for url in again)
    assert File.objects.get().size == film.stat().st_size


def test_giving_up_leaves_nothing_in_the_bucket(
    user: User, signed_in_page: Callable[..., Page], bucket: BucketStorage, film: Path
) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    page.route(re.compile(r"partNumber=4"), lambda route: route.abort())
    choose(page, film)
    expect(row(page, "film.png")).to_contain_text("Retrying…", timeout=PATIENCE)
    assert len(bucket.unfinished("incoming/")) == 1
    with page.expect_response(re.compile(r"/discard/$")) as answer:
        row(page, "film.png").get_by_role("button", name="Cancel upload").click()
    assert answer.value.status == 204
    assert bucket.unfinished("incoming/") == []
    assert not Upload.objects.exists()


def test_what_is_refused_is_said_with_its_reason(
    user: User, signed_in_page: Callable[..., Page], worker: Callable[[], LiveWorker], tmp_path: Path
) -> None:
    worker()
    page = signed_in_page(user)
    page.goto("/drive/")
    lie = tmp_path / "lie.png"
    lie.write_bytes(b"<html>" + b" " * (17 * MB))
    choose(page, lie)
    expect(page.locator(".drive-tray-row[data-state=failed]")).to_be_visible(timeout=PATIENCE)
    reason = Upload.objects.get().reason
    assert reason
    expect(row(page, "lie.png")).to_contain_text(reason)

    user.quota_bytes = MB
    user.save()
    large = tmp_path / "large.png"
    large.write_bytes(b"\0" * 17 * MB)
    choose(page, large)
    expect(row(page, "large.png")).to_contain_text("Your drive has")
    assert Upload.objects.count() == 1
