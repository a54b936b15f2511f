"""Tests of uploads in a real browser: folder trees, lost connections, name conflicts, the camera."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from drive.files.services import ancestors_of, create_folder
from drive.models import File, Folder, Upload
from tests.browser.conftest import wait_until
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders of this machine on the page, as the desktop would."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 700, "y": 500, "data": data})


def row(page: Page, name: str) -> Locator:
    return page.locator(".drive-tray-row", has_text=name)


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    sent = [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files]
    page.locator("#drive-upload [type=file]").set_input_files(sent)


def large(seed: int = 0) -> bytes:
    """A picture of more than one request: noise does not become smaller."""
    data = picture_bytes("PNG", 200, 200, seed=seed)
    return data + b"\0" * (5 * 1024 * 1024)


def test_a_dropped_tree_survives_a_lost_server(
    user: User, signed_in_page: Callable[..., Page], tmp_path: Path
) -> None:
    tree = tmp_path / "Holiday"
    (tree / "Day 1").mkdir(parents=True)
    (tree / "Day 2" / "Évening").mkdir(parents=True)
    for number in range(6):
        (tree / "Day 1" / f"{number}.jpg").write_bytes(picture_bytes(seed=number))
    (tree / "Day 2" / "Évening" / "film.png").write_bytes(large())
    (tree / "cover.jpg").write_bytes(picture_bytes(seed=9))
    page = signed_in_page(user)
    page.goto("/drive/")

    # The first three requests arrive, then the server is gone: for three of the six small files under way and
    # for the one that takes the place of those that came. The film waits until there are fewer.
    arrived: list[str] = []

    def fragile(route: Any) -> None:
        if len(arrived) < 3:
            arrived.append(route.request.url)
            route.continue_()
        else:
            route.abort()

    uploads = re.compile(r"/v1/uploads")
    page.route(uploads, fragile)
    drop(page, tree)
    expect(page.locator(".drive-tray-row[data-state=lost]")).to_have_count(4)
    expect(page.locator("#drive-tray-title")).to_have_text(re.compile(r"^Uploading \d of 8$"))
    expect(page.locator(".drive-tray-row[data-state=lost]").first).to_contain_text("Retrying…")
    page.unroute(uploads)
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")

    found = {}
    for file in File.objects.filter(owner=user).select_related("folder"):
        way, folder = [file.name], file.folder
        while folder:
            way.insert(0, folder.name)
            folder = folder.parent
        found["/".join(way)] = file.size
    wanted = {str(p.relative_to(tmp_path)): p.stat().st_size for p in tree.rglob("*.*") if p.is_file()}
    assert found == wanted
    assert Folder.objects.filter(owner=user).count() == 4
    expect(page.locator(".drive-tile", has_text="Holiday")).to_be_visible()


def test_the_same_file_goes_on_after_a_reload(
    user: User, signed_in_page: Callable[..., Page], tmp_path: Path
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(large(seed=3))
    page = signed_in_page(user)
    page.goto("/drive/")
    page.route(re.compile(r"/v1/uploads/"), lambda route: route.abort())
    page.locator("#drive-upload [type=file]").set_input_files(film)
    expect(row(page, "film.png")).to_contain_text("Retrying…")
    begun = Upload.objects.get()
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    # Not before: the page tries again by itself, and might be done before it is left.
    page.unroute(re.compile(r"/v1/uploads/"))
    page.locator("#drive-upload [type=file]").set_input_files(film)
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
    assert Upload.objects.get().pk == begun.pk
    assert File.objects.get().size == film.stat().st_size


def test_pausing_and_giving_up(user: User, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    page.route(re.compile(r"/v1/uploads/"), lambda route: route.abort())
    choose(page, ("film.png", large(seed=4)))
    expect(row(page, "film.png")).to_contain_text("Retrying…")
    page.get_by_role("button", name="Pause all").click()
    expect(row(page, "film.png")).to_contain_text("Paused")
    page.unroute(re.compile(r"/v1/uploads/"))
    row(page, "film.png").get_by_role("button", name="Resume").click()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")

    page.route(re.compile(r"/v1/uploads/"), lambda route: route.abort())
    choose(page, ("other.png", large(seed=5)))
    expect(row(page, "other.png")).to_contain_text("Retrying…")
    page.unroute(re.compile(r"/v1/uploads/"))
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
        row(page, "other.png").get_by_role("button", name="Cancel upload").click()
    assert answer.value.status == 204
    assert not Upload.objects.filter(completed_at=None).exists()


def test_names_that_are_taken_are_asked_about_once(user: User, signed_in_page: Callable[..., Page]) -> None:
    old = [upload(user, name, seed=seed) for seed, name in enumerate(("a.jpg", "b.jpg"))]
    page = signed_in_page(user)
    page.goto("/drive/")
    sent = [
        ("a.jpg", picture_bytes(seed=7)),
        ("b.jpg", picture_bytes(seed=8)),
        ("c.jpg", picture_bytes(seed=9)),
    ]

    for choice, count in [("Cancel", 2), ("Skip", 3), ("Replace", 3), ("Keep both", 6)]:
        choose(page, *sent)
        dialog = page.get_by_role("dialog", name="Some names already exist")
        expect(dialog).to_contain_text("a.jpg, b.jpg")
        dialog.get_by_role("button", name=choice).click()
        if choice != "Cancel":
            expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
            page.get_by_role("region", name="Uploads").get_by_role("button", name="Close").click()
        expect(page.locator(".drive-file")).to_have_count(count)
        digests = [File.objects.get(pk=file.pk).blob_id for file in old]
        kept = digests == [file.blob_id for file in old]
        assert kept == (choice in ("Cancel", "Skip"))


def test_a_picture_from_the_camera(user: User, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    page.get_by_role("button", name="Camera", exact=True).click()
    dialog = page.get_by_role("dialog", name="Camera")
    expect(dialog).to_be_visible()
    wait_until(page, "document.querySelector('#drive-camera video').videoWidth > 0")
    dialog.get_by_role("button", name="Take a photo").click()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
    dialog.get_by_role("button", name="Close").click()
    file = File.objects.get()
    assert re.fullmatch(r"Camera [\d-]+ [\d.]+\.jpg", file.name)
    assert file.width
    assert file.width >= 320

    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('none')); }")
    page.get_by_role("button", name="Camera", exact=True).click()
    expect(page.get_by_text("No access to the camera.")).to_be_visible()


def test_a_folder_is_chosen_into_a_folder(
    user: User, signed_in_page: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "Tree" / "inner").mkdir(parents=True)
    (tmp_path / "Tree" / "inner" / "a.jpg").write_bytes(picture_bytes())
    home = create_folder(owner=user, parent=None, name="Home")
    page = signed_in_page(user)
    page.goto(f"/drive/folder/{home.pk}/")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload folder").click()
    chooser.value.set_files(tmp_path / "Tree")
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
    file = File.objects.get()
    assert file.folder is not None
    assert [f.name for f in ancestors_of(file.folder)] == ["Home", "Tree", "inner"]


def test_very_many_files_arrive_and_the_tray_sums_them_up(
    user: User, signed_in_page: Callable[..., Page], tmp_path: Path
) -> None:
    tree = tmp_path / "Many"
    tree.mkdir()
    for number in range(150):
        (tree / f"{number}.jpg").write_bytes(picture_bytes("JPEG", 32, 24, seed=number))
    page = signed_in_page(user)
    page.goto("/drive/")
    listings: list[str] = []
    page.on("request", lambda r: listings.append(r.url) if r.headers.get("hx-target") == "listing" else None)

    # At first the server takes none: each is told as failed, but only some have a row.
    uploads = re.compile(r"/v1/uploads")
    page.route(uploads, lambda route: route.fulfill(status=413, body="{}"))
    drop(page, tree)
    expect(page.locator("#drive-tray-title")).to_have_text("Finished, with errors")
    expect(page.locator(".drive-tray-row")).to_have_count(20)
    expect(page.locator("#drive-tray-more")).to_have_text("130 more failed.")
    page.unroute(uploads)
    page.get_by_role("button", name="Retry all").click()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded", timeout=60_000)
    expect(page.locator(".drive-tray-row")).to_have_count(0)
    expect(page.locator("#drive-tray-more")).to_be_hidden()
    expect(page.get_by_role("button", name="Retry all")).to_be_hidden()
    names = File.objects.filter(owner=user, folder__name="Many").values_list("name", flat=True)
    assert sorted(names) == sorted(f"{number}.jpg" for number in range(150))
    expect(page.locator(".drive-tile", has_text="Many")).to_be_visible()
    # The page fetches its listing when all have come, not for each of them.
    assert len(listings) <= 4
