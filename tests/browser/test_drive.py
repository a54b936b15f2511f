"""Tests of the drive in a real browser: upload, select, undo and move, by mouse and keyboard."""

import base64
import contextlib
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from drive.files import services
from drive.models import File, Folder
from drive.uploads import work
from tests.drive.factories import upload
from tests.factories import PASSWORD, UserFactory
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
  const fire = (type) => document.body.dispatchEvent(new DragEvent(type, options));
  ["dragenter", "dragover", "drop"].forEach(fire);
}"""


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


def tile(page: Page, name: str) -> Locator:
    return page.locator(".drive-tile", has=page.get_by_role("link", name=name, exact=True))


def selected(field: Locator) -> str:
    """Return the selected part of what a field holds."""
    return str(field.evaluate("field => field.value.slice(field.selectionStart, field.selectionEnd)"))


def go(page: Page, key: str, name: str) -> None:
    """Press a key until the page of another file shows: a page just opened may not listen yet."""
    heading = page.get_by_role("heading", level=1)
    for _ in range(20):
        page.keyboard.press(key)
        with contextlib.suppress(AssertionError):
            expect(heading).to_contain_text(name, timeout=1000)
            return
    raise AssertionError(f"{key} did not lead to {name}")


def choose(page: Page, *names: str) -> None:
    """Choose pictures of these names in the upload's dialog."""
    files = [
        {"name": name, "mimeType": "image/jpeg", "buffer": picture_bytes(seed=seed)}
        for seed, name in enumerate(names)
    ]
    page.locator("#drive-upload [type=file]").set_input_files(files)


def test_from_signing_in_to_thumbnails(page: Page, user: User) -> None:
    page.goto("/drive/")
    page.locator("[name=login]").fill(user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=password]").press("Enter")
    expect(page.get_by_text("Your drive is empty")).to_be_visible()
    page.wait_for_load_state()

    page.get_by_role("link", name="New folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("Holidays")
    dialog.get_by_label("Name", exact=True).press("Enter")
    expect(dialog).to_be_hidden()
    expect(tile(page, "Holidays")).to_be_visible()

    choose(page, "one.jpg", "two.jpg", "three.jpg")
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
    page.evaluate(DROP, ["dropped.png", base64.b64encode(picture_bytes("PNG", seed=9)).decode()])
    expect(page.locator(".drive-file")).to_have_count(4)
    expect(page.locator(".drive-file .drive-note")).to_have_count(4)

    while work.inspect_uploads(user.pk):
        pass
    expect(page.locator(".drive-file img")).to_have_count(4)
    for number in range(4):
        expect(page.locator(".drive-file img").nth(number)).to_have_js_property("naturalWidth", 256)
    # Nobody is asked any more: the poller has stopped.
    expect(page.locator("#poller")).not_to_have_attribute("hx-post", "/drive/states/")


def test_what_is_no_picture_stays_in_the_tray_and_can_be_tried_again(
    user: User, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    bad = {"name": "page.jpg", "mimeType": "image/jpeg", "buffer": b"<html></html>"}
    page.locator("#drive-upload [type=file]").set_input_files([bad])
    row = page.locator(".drive-tray-row")
    expect(row).to_contain_text("This file type isn’t supported")
    expect(page.locator("#drive-tray-title")).to_have_text("Finished, with errors")
    row.get_by_role("button", name="Retry").click()
    expect(row).to_contain_text("This file type isn’t supported")

    page.route("**/v1/uploads", lambda route: route.abort())
    choose(page, "lost.jpg")
    lost = page.locator(".drive-tray-row", has_text="lost.jpg")
    expect(lost).to_contain_text("Connection lost. Retrying…")
    page.unroute("**/v1/uploads")
    lost.get_by_role("button", name="Retry").click()
    expect(tile(page, "lost.jpg")).to_be_visible()


def test_a_damaged_picture_says_so_when_the_worker_has_looked(
    user: User, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    whole = picture_bytes()
    bad = {"name": "torn.jpg", "mimeType": "image/jpeg", "buffer": whole[: len(whole) // 2]}
    page.locator("#drive-upload [type=file]").set_input_files([bad])
    expect(tile(page, "torn.jpg")).to_contain_text("Being checked")
    work.inspect_uploads(user.pk)
    expect(tile(page, "torn.jpg")).to_contain_text("it ends too early")


def test_selecting_trash_undo_rename_and_move(user: User, signed_in_page: Callable[..., Page]) -> None:
    services.create_folder(owner=user, parent=None, name="Target")
    for number in range(5):
        upload(user, f"{number}.jpg", seed=number)
    work.inspect_uploads(user.pk)
    page = signed_in_page(user)
    page.goto("/drive/?sort=name")
    count = page.locator("[data-count]")

    # Shift takes the range between, Ctrl one more, Escape none.
    tile(page, "0.jpg").click(modifiers=["ControlOrMeta"])
    tile(page, "2.jpg").click(modifiers=["Shift"])
    expect(count).to_have_text("3")
    tile(page, "4.jpg").click(modifiers=["ControlOrMeta"])
    expect(count).to_have_text("4")
    page.keyboard.press("Escape")
    expect(page.locator("#bulk-bar")).to_be_hidden()
    page.keyboard.press("ControlOrMeta+a")
    expect(count).to_have_text("6")
    page.keyboard.press("Escape")

    tile(page, "0.jpg").click(modifiers=["ControlOrMeta"])
    tile(page, "1.jpg").click(modifiers=["Shift"])
    page.locator("#bulk-bar").get_by_role("button", name="Move to trash").click()
    expect(tile(page, "0.jpg")).to_be_hidden()
    expect(page.locator(".drive-file")).to_have_count(3)
    note = page.get_by_text("2 items moved to the trash.")
    expect(note).to_be_visible()
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.locator(".drive-file")).to_have_count(5)
    assert not File.objects.filter(trashed_at__isnull=False).exists()

    tile(page, "3.jpg").hover()
    tile(page, "3.jpg").get_by_role("button", name="Actions for 3.jpg").click()
    page.locator(".dropdown-menu.show").get_by_role("link", name="Rename").click()
    field = page.get_by_role("dialog").get_by_label("Name", exact=True)
    expect(field).to_be_focused()
    # The ending is not selected, so that typing leaves it.
    assert selected(field) == "3"
    field.fill("cat.jpg")
    field.press("Enter")
    expect(tile(page, "cat.jpg")).to_be_visible()

    tile(page, "cat.jpg").click(modifiers=["ControlOrMeta"])
    page.locator("#bulk-bar").get_by_role("button", name="Move", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Target").check()
    dialog.get_by_role("button", name="Move here").click()
    expect(tile(page, "cat.jpg")).to_be_hidden()
    assert File.objects.get(name="cat.jpg").folder == Folder.objects.get(name="Target")


def test_the_keyboard_alone_selects_and_opens(user: User, signed_in_page: Callable[..., Page]) -> None:
    for number in range(3):
        upload(user, f"{number}.jpg", seed=number)
    work.inspect_uploads(user.pk)
    page = signed_in_page(user)
    page.goto("/drive/?sort=name")
    page.get_by_label("Select 0.jpg").focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-count]")).to_have_text("1")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="0.jpg").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("0.jpg")
    go(page, "ArrowRight", "1.jpg")
    go(page, "ArrowLeft", "0.jpg")

    page.get_by_role("link", name="Rename").click()
    field = page.get_by_label("Name", exact=True)
    expect(field).to_be_focused()
    assert selected(field) == "0"
    field.fill("first.jpg")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("first.jpg")


def test_the_next_tiles_come_while_scrolling(user: User, signed_in_page: Callable[..., Page]) -> None:
    first = upload(user, "0.jpg")
    work.inspect_uploads(user.pk)
    first.refresh_from_db()
    File.objects.bulk_create(
        File(
            owner=user,
            name=f"{n}.jpg",
            blob_id=first.blob_id,
            content_type="image/jpeg",
            size=n,
            state="ready",
        )
        for n in range(1, 100)
    )
    page = signed_in_page(user)
    page.goto("/drive/")
    expect(page.locator(".drive-file")).to_have_count(60)
    page.locator("#more-files").scroll_into_view_if_needed()
    expect(page.locator(".drive-file")).to_have_count(100)


def test_without_scripts_the_forms_do_it(user: User, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user, java_script_enabled=False)
    page.goto("/drive/")
    choose(page, "a.jpg", "b.jpg")
    page.get_by_role("button", name="Upload selected files").click()
    expect(page.get_by_text("2 files uploaded.")).to_be_visible()
    work.inspect_uploads(user.pk)

    page.get_by_role("link", name="New folder").click()
    page.get_by_label("Name", exact=True).fill("Target")
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Select a.jpg").check()
    page.get_by_role("button", name="Move", exact=True).click()
    page.get_by_label("Target").check()
    page.get_by_role("button", name="Move here").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Target")
    expect(page.get_by_role("link", name="a.jpg")).to_be_visible()

    page.get_by_label("Select a.jpg").check()
    page.get_by_role("button", name="Move to trash").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="a.jpg")).to_be_visible()
    page.get_by_role("link", name="a.jpg").click()
    page.get_by_role("link", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("c.jpg")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("c.jpg")
