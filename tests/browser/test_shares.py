"""Tests of share links in a browser: create with a password, open while signed out, revoke."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.files import services
from drive.models import Share
from drive.uploads import work
from tests.drive.factories import upload

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_folder_is_shared_opened_and_revoked(
    signed_in_page: Callable[..., Page], open_page: Callable[..., Page], user: User
) -> None:
    folder = services.create_folder(owner=user, parent=None, name="Holiday")
    upload(user, "sea.jpg", folder=folder)
    work.inspect_uploads(user.pk)
    page = signed_in_page(user)
    page.goto(f"/drive/folder/{folder.pk}/")
    page.get_by_role("link", name="Share this folder").click()
    page.get_by_label("Password").fill("open sesame")
    page.get_by_role("button", name="Create link").click()
    link = page.get_by_role("textbox", name="Link").input_value()
    visitor = open_page(viewport={"width": 390, "height": 844})
    visitor.goto(link)
    visitor.get_by_label("Password").fill("open sesame")
    visitor.get_by_role("button", name="Open").click()
    expect(visitor.get_by_role("heading", name="Holiday")).to_be_visible()
    with visitor.expect_download() as zipped:
        visitor.get_by_role("link", name="Download all").click()
    assert zipped.value.suggested_filename == "Holiday.zip"
    visitor.get_by_role("link", name="sea.jpg").click()
    expect(visitor.get_by_role("img", name="sea.jpg")).to_be_visible()
    page.goto("/drive/shared/")
    page.get_by_role("button", name="Revoke the link").click()
    expect(page.get_by_text("Nothing is shared")).to_be_visible()
    assert Share.objects.get().revoked_at is not None
    answer = visitor.goto(link)
    assert answer is not None
    assert answer.status == 404
