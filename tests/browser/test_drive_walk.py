"""End-to-end test of the drive: upload with a server crash, move, share, trash, download.

A real Chromium, a real server that is killed with -9, a real Celery worker.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, expect

from accounts.models import User
from drive.files.services import ancestors_of
from drive.models import File, FileState, Folder, Upload
from tests.browser.test_drive import tile
from tests.browser.test_uploads import drop, row
from tests.browser.web import WebServer
from tests.factories import UserFactory
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.workers.checkpoints.weights_files import safetensors_bytes
from tests.workers.media.samples import GPS, draw, with_exif
from tests.workers.media.videos import video_bytes

pytestmark = [pytest.mark.browser, pytest.mark.worker, pytest.mark.django_db(transaction=True)]
PASSWORD = "open sesame"
SECRET = b"SECRET-DESCRIPTION"
# Bytes a second: several seconds for the panorama, so that the server dies in the middle of it.
SLOW = 12 * 2**20
CHUNK = 16 * 2**20


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


@pytest.fixture
def server(process_env: dict[str, str], transactional_db: None, tmp_path: Path) -> Iterator[WebServer]:
    started = WebServer(process_env, tmp_path / "web.log")
    started.start()
    yield started
    started.kill()


def panorama() -> bytes:
    """Return a picture of more than two chunks: noise, which no format makes smaller."""
    pixels = np.random.default_rng(1).integers(0, 256, (3400, 3400, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def contents() -> dict[str, bytes]:
    """Return what is dropped: path to bytes, twelve pictures, a video and weights."""
    found = {
        "cover.jpg": picture_bytes(seed=1),
        "Day 1/place.jpg": with_exif(draw(), "JPEG", 6, quality=90),
        "Day 1/scan.tif": picture_bytes("TIFF", seed=2),
        "Day 2/model.safetensors": safetensors_bytes(made="by hand"),
        "Day 2/Évening/film.mp4": video_bytes(),
        "Day 2/Évening/panorama.png": panorama(),
    }
    assert SECRET in found["Day 1/place.jpg"]
    assert len(found["Day 2/Évening/panorama.png"]) > 2 * CHUNK
    for number in range(4):
        found[f"Day 1/{number}.jpg"] = picture_bytes(seed=10 + number)
        found[f"Day 2/view {number}.webp"] = picture_bytes("WEBP", seed=20 + number)
    return found


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    for path, data in {**files, "notes.txt": b"What we did on the first day.\n"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def slow_down(page: Page, upload: float) -> None:
    """Let a page send so many bytes a second; -1 for as many as it can."""
    session = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", limits)


def wait_until(reached: Callable[[], bool], what: str, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends, what
        time.sleep(0.05)


def kept(owner: User) -> dict[str, int]:
    """Return what the drive holds: path to size, nothing left out and nothing twice."""
    rows = File.objects.filter(owner=owner).select_related("folder")
    found = {"/".join([*way_to(file.folder), file.name]): file.size for file in rows}
    assert len(found) == len(rows)
    return found


def way_to(folder: Folder | None) -> list[str]:
    return [above.name for above in ancestors_of(folder)] if folder else []


def open_folder(page: Page, name: str) -> None:
    page.locator(".drive-open", has_text=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_tree_through_the_whole_drive(
    user: User,
    server: WebServer,
    signed_in_page: Callable[..., Page],
    open_page: Callable[..., Page],
    celery_worker: Callable[..., LiveWorker],
    console_problems: list[str],
    tmp_path: Path,
) -> None:
    files = contents()
    write_tree(tmp_path / "Journey", files)
    celery_worker(queues="cpu,background")
    page = signed_in_page(user, base_url=server.url)
    page.goto("/drive/")

    upload_through_a_crash(page, server, tmp_path / "Journey")
    # The page may have asked what became of its files while nobody answered.
    console_problems[:] = [line for line in console_problems if line != "htmx:sendError"]
    assert kept(user) == {f"Journey/{path}": len(data) for path, data in files.items()}
    assert not Upload.objects.filter(owner=user, completed_at=None, length__gt=0, offset__gt=0).exists()

    open_folder(page, "Journey")
    files = sort_away(page, files)
    wait_until(lambda: not File.objects.filter(state=FileState.UPLOADED).exists(), "all is looked at")
    assert not File.objects.exclude(state=FileState.READY).exists()

    link = share(page)
    visit(open_page(base_url=server.url, viewport={"width": 390, "height": 844}), link)
    trash_and_restore(page)
    assert kept(user) == {f"Journey/{path}": len(data) for path, data in files.items()}
    take_home(page, files)


def upload_through_a_crash(page: Page, server: WebServer, tree: Path) -> None:
    """Drop a tree, kill the server while the largest file is on its way, and start it again."""
    resumed: list[int] = []

    def listen(request: Request) -> None:
        if request.method == "PATCH":
            resumed.append(int(request.headers["upload-offset"]))

    slow_down(page, SLOW)
    drop(page, tree)
    large = Upload.objects.filter(length__gt=2 * CHUNK, offset__gte=CHUNK)
    wait_until(large.exists, "the first chunk has arrived")
    begun = large.get()
    server.kill()
    expect(row(page, "panorama.png")).to_contain_text("Retrying…")
    assert not File.objects.filter(name="panorama.png").exists()
    page.on("request", listen)
    slow_down(page, -1)
    server.start()

    expect(page.locator("#drive-tray-title")).to_have_text("Finished, with errors")
    expect(page.locator(".drive-tray-row[data-state=failed]")).to_have_count(1)
    expect(row(page, "notes.txt")).to_contain_text("This file type isn’t supported")
    # It went on where the server had got to, in the upload that had begun.
    begun.refresh_from_db()
    assert begun.file is not None
    assert begun.file.name == "panorama.png"
    assert min(offset for offset in resumed if offset) >= CHUNK


def sort_away(page: Page, files: dict[str, bytes]) -> dict[str, bytes]:
    """Move one picture by drag and one by dialog; return what now lies where."""
    tile(page, "cover.jpg").drag_to(tile(page, "Day 1"))
    expect(tile(page, "cover.jpg")).to_be_hidden()
    open_folder(page, "Day 2")
    tile(page, "view 0.webp").click(modifiers=["ControlOrMeta"])
    page.locator("#bulk-bar").get_by_role("button", name="Move", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Évening").check()
    dialog.get_by_role("button", name="Move here").click()
    expect(tile(page, "view 0.webp")).to_be_hidden()
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Journey").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Journey")
    moved = {"cover.jpg": "Day 1/cover.jpg", "Day 2/view 0.webp": "Day 2/Évening/view 0.webp"}
    return {moved.get(path, path): data for path, data in files.items()}


def share(page: Page) -> str:
    """Share the folder that the page shows, with a password; return the link."""
    page.get_by_role("link", name="Share this folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Create link").click()
    link = dialog.get_by_role("textbox", name="Link").input_value()
    dialog.get_by_role("button", name="Done").click()
    return link


def visit(visitor: Page, link: str) -> None:
    """Open a link signed out; the picture that is shown tells nothing but what is to be seen."""
    visitor.goto(link)
    visitor.get_by_label("Password").fill("wrong")
    visitor.get_by_role("button", name="Open").click()
    expect(visitor.get_by_role("heading", name="Password required")).to_be_visible()
    visitor.get_by_label("Password").fill(PASSWORD)
    visitor.get_by_role("button", name="Open").click()
    expect(visitor.get_by_role("heading", level=1)).to_have_text("Journey")
    open_folder(visitor, "Day 1")
    with visitor.expect_response(re.compile(r"/content/$")) as answer:
        visitor.get_by_role("link", name="place.jpg").click()
    served = answer.value.body()
    assert SECRET not in served
    assert not Image.open(io.BytesIO(served)).getexif().get_ifd(GPS)
    # It stands upright all the same.
    expect(visitor.get_by_role("img", name="place.jpg")).to_have_js_property("naturalWidth", draw().height)


def trash_and_restore(page: Page) -> None:
    """Delete and undo, delete again, and take it out of the trash."""
    open_folder(page, "Day 1")
    everything = page.locator(".drive-file").count()
    for name in ("0.jpg", "1.jpg"):
        tile(page, name).click(modifiers=["ControlOrMeta"])
    for undone in (True, False):
        page.locator("#bulk-bar").get_by_role("button", name="Move to trash").click()
        expect(page.locator(".drive-file")).to_have_count(everything - 2)
        if undone:
            page.locator("#toasts").get_by_role("button", name="Undo").click()
            expect(page.locator(".drive-file")).to_have_count(everything)
            for name in ("0.jpg", "1.jpg"):
                tile(page, name).click(modifiers=["ControlOrMeta"])
    page.goto("/drive/trash/")
    expect(page.locator(".drive-tile")).to_have_count(2)
    for name in ("0.jpg", "1.jpg"):
        page.get_by_role("button", name=f"Restore {name}").click()
        expect(page.locator(".drive-tile", has_text=name)).to_be_hidden()
    assert not File.objects.filter(trashed_at__isnull=False).exists()


def take_home(page: Page, files: dict[str, bytes]) -> None:
    """Download the folder as a zip: every byte that was dropped, and no other."""
    page.goto("/drive/")
    menu = tile(page, "Journey")
    menu.hover()
    menu.get_by_role("button", name="Actions for the folder Journey").click()
    with page.expect_download() as zipped:
        page.locator(".dropdown-menu.show").get_by_role("link", name="Download").click()
    assert zipped.value.suggested_filename == "Journey.zip"
    with zipfile.ZipFile(zipped.value.path()) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    assert members.keys() == {f"Journey/{path}" for path in files}
    for path, data in files.items():
        assert members[f"Journey/{path}"] == data, path
