"""Accessibility, as far as axe can tell: nothing serious on any main page, in either theme."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts.models import User
from drive import services, sharing, work
from drive.models import Folder, Share
from drive.views.viewer import LOOKS
from processing.models import Output
from tests.browser.test_uploads import choose
from tests.drive.drives import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing.jobs import submit, take_turns
from tests.workers.videos import video_bytes
from tests.workers.weights_files import onnx_bytes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SERIOUS = {"serious", "critical"}


# Of a theme, only colours depend.
RULES = {"light": None, "dark": {"runOnly": ["color-contrast"]}}


def problems(page: Page, addresses: Sequence[str]) -> list[str]:
    """Return what axe finds serious on these pages in either theme, a line each."""
    lines = []
    for theme, rules in RULES.items():
        # Before the page is loaded: colours would fade from one theme into the other.
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for address in addresses:
            page.goto(address)
            page.wait_for_load_state("networkidle")
            lines += [f"{address} {theme} {line}" for line in _findings(page, rules)]
    return lines


def _findings(page: Page, rules: dict[str, Any] | None = None) -> list[str]:
    violations = Axe().run(page, options=rules).response["violations"]
    return [
        f"{one['id']} at {node['target']}: {node['any'][0]['message'] if node['any'] else ''}"
        for one in violations
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def test_pages_for_everybody(page: Page, celery_worker: Callable[..., LiveWorker]) -> None:
    celery_worker(queues="preview")
    apps = ["/apps/", "/apps/ipau/mosaic/", "/apps/ipau/ascii/"]
    addresses = ["/", *apps, "/accounts/login/", "/accounts/signup/", "/nothing/"]
    found = problems(page, addresses)
    assert not found, "\n".join(found)


def test_pages_of_a_person(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker(queues="preview")
    folder = services.create_folder(owner=user, parent=None, name="Holiday")
    file = upload(user, "sea.jpg", folder=folder, seed=1)
    whole = picture_bytes(width=800, height=600)
    damaged = upload(user, "damaged.jpg", data=whole[: len(whole) // 2])
    work.inspect_uploads(user.pk)
    job = submit(user, [file, damaged])
    take_turns(user)
    result = Output.objects.get(item__job=job).file
    addresses = [
        "/",
        "/drive/",
        f"/drive/folder/{folder.pk}/",
        f"/drive/file/{file.pk}/",
        *(f"/drive/file/{result.pk}/?look={look}" for look in LOOKS),
        "/drive/trash/",
        f"/apps/ipau/blackwhite/?file={file.pk}",
        "/apps/ipau/ascii/?tab=api",
        f"/apps/ipau/blackwhite/table/?file={file.pk}",
        "/jobs/",
        f"/jobs/{job.pk}/",
        "/cluster/",
        "/settings/",
        "/settings/keys/",
    ]
    found = problems(signed_in_page(user), addresses)
    assert not found, "\n".join(found)


@pytest.fixture
def holiday(user: User) -> Folder:
    """A folder with a folder, and with a file of each kind."""
    folder = services.create_folder(owner=user, parent=None, name="Holiday")
    services.create_folder(owner=user, parent=folder, name="Day 1")
    upload(user, "sea.jpg", folder=folder)
    upload(user, "film.webm", folder=folder, data=video_bytes("webm"))
    upload(user, "detector.onnx", folder=folder, data=onnx_bytes())
    work.inspect_uploads(user.pk)
    return folder


def test_rooms_of_the_drive(user: User, holiday: Folder, signed_in_page: Callable[..., Page]) -> None:
    sharing.create_share(owner=user, folder_id=holiday.pk, password="open sesame", can_download=False)
    gone = upload(user, "gone.jpg", seed=2)
    services.trash(owner=user, chosen=services.select(owner=user, file_ids=[gone.pk]))
    addresses = [
        f"/drive/folder/{holiday.pk}/?view=list",
        "/drive/search/?q=sea&when=range",
        "/drive/starred/",
        "/drive/shared/",
        "/drive/trash/",
    ]
    found = problems(signed_in_page(user), addresses)
    assert not found, "\n".join(found)


def test_pages_of_visitors(user: User, holiday: Folder, page: Page) -> None:
    def link(**terms: str) -> str:
        return sharing.path_of(sharing.create_share(owner=user, folder_id=holiday.pk, **terms))

    opened, closed, over = link(), link(password="open sesame"), link(label="over")
    Share.objects.filter(label="over").update(expires_at=timezone.now() - timedelta(days=1))
    files = [f"{opened}file/{file.pk}/" for file in holiday.files.all()]
    assert len(files) == 3
    found = problems(page, [opened, closed, over, *files])
    page.goto(closed)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("This is not the password.")).to_be_visible()
    found += _findings(page)
    assert not found, "\n".join(found)


def test_dialogs_of_the_drive(user: User, holiday: Folder, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.emulate_media(reduced_motion="reduce")
    found = []
    for theme, rules in RULES.items():
        page.emulate_media(color_scheme=theme)
        page.goto(f"/drive/folder/{holiday.pk}/")
        dialog = page.get_by_role("dialog")
        for name in ("New folder", "Share this folder", "Keyboard"):
            page.get_by_role("link", name=name).click()
            expect(dialog).to_be_visible()
            found += [f"{name} {theme} {line}" for line in _findings(page, rules)]
            page.keyboard.press("Escape")
            expect(dialog).to_be_hidden()
        page.keyboard.press("ControlOrMeta+a")
        page.locator("#bulk-bar").get_by_role("button", name="Move", exact=True).click()
        expect(dialog).to_be_visible()
        found += [f"Move {theme} {line}" for line in _findings(page, rules)]
        page.keyboard.press("Escape")
        choose(page, ("sea.jpg", picture_bytes(seed=4)))
        expect(page.get_by_role("dialog", name="Some of these are here already")).to_be_visible()
        found += [f"Conflict {theme} {line}" for line in _findings(page, rules)]
        page.get_by_role("button", name="Skip").click()
        expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
        found += [f"Tray {theme} {line}" for line in _findings(page, rules)]
    assert not found, "\n".join(found)
