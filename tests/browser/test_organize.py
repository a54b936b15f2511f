"""Tests of organizing in a real browser: drag, search, stars, list of shortcuts, folder tree."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.files import services, trash
from drive.models import File
from drive.uploads import work
from tests.browser.test_drive import tile
from tests.drive.factories import upload
from tests.factories import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


def test_dragging_searching_and_the_keys(user: User, signed_in_page: Callable[..., Page]) -> None:
    target = services.create_folder(owner=user, parent=None, name="Target")
    services.create_folder(owner=user, parent=target, name="Below")
    for number, name in enumerate(("cat 1.jpg", "cat 2.jpg", "dog.jpg")):
        upload(user, name, seed=number)
    while work.inspect_uploads(user.pk):
        pass
    page = signed_in_page(user)
    page.goto("/drive/?sort=name")
    expect(page.locator("#drive-tree").get_by_role("link", name="Target")).to_be_visible()

    # The whole selection goes along with the tile that is dragged, and comes back by Undo.
    tile(page, "cat 1.jpg").click(modifiers=["ControlOrMeta"])
    tile(page, "cat 2.jpg").click(modifiers=["ControlOrMeta"])
    tile(page, "cat 2.jpg").drag_to(tile(page, "Target"))
    expect(page.locator(".drive-file")).to_have_count(1)
    assert File.objects.filter(folder=target).count() == 2
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.locator(".drive-file")).to_have_count(3)
    assert not File.objects.filter(folder=target).exists()
    tile(page, "dog.jpg").drag_to(page.locator("#drive-tree").get_by_role("link", name="Target"))
    expect(page.locator(".drive-file")).to_have_count(2)

    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Clear the selection")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#drive-search")).to_be_focused()
    page.keyboard.type("CAT")
    page.keyboard.press("Enter")
    page.wait_for_url("**/drive/search/**")
    expect(page.locator(".drive-file")).to_have_count(2)

    # Results are selected as anything else is; typing on narrows them down.
    tile(page, "cat 1.jpg").click(modifiers=["ControlOrMeta"])
    page.keyboard.press("ControlOrMeta+a")
    expect(page.locator("[data-count]")).to_have_text("2")
    page.keyboard.press("Escape")
    page.locator("#drive-search").fill("cat 2")
    expect(page.locator(".drive-file")).to_have_count(1)
    page.get_by_label("Star cat 2.jpg").click()
    expect(page.get_by_label("Star cat 2.jpg")).to_have_attribute("aria-pressed", "true")
    page.locator(".drive-side").get_by_role("link", name="Starred").click()
    expect(page.locator(".drive-file")).to_have_count(1)
    page.get_by_label("Star cat 2.jpg").click()
    expect(page.get_by_text("No starred files yet")).to_be_visible()


def test_emptying_the_trash_asks_first(user: User, signed_in_page: Callable[..., Page]) -> None:
    file = upload(user, "gone.jpg")
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[file.pk]))
    page = signed_in_page(user)
    page.goto("/drive/trash/")
    expect(page.locator(".drive-tile")).to_contain_text("30 days left")
    page.get_by_role("link", name="Empty trash").click()
    page.get_by_role("button", name="Delete forever").click()
    expect(page.get_by_text("1 item deleted forever.")).to_be_visible()
    expect(page.get_by_text("The trash is empty")).to_be_visible()
    assert not File.objects.exists()
