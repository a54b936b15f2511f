"""Accessibility tests with axe: no serious violation on any main page, in both themes."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.files import services, trash
from drive.models import Folder, Share
from drive.shares import services as shares
from drive.uploads import work
from drive.views.viewer import LOOKS
from processing.models import Output
from tests.browser.conftest import settled, wait_until
from tests.browser.test_uploads import choose
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns
from tests.workers.checkpoints.weights_files import onnx_bytes
from tests.workers.media.videos import video_bytes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SERIOUS = {"serious", "critical"}


# Of a theme, only colors depend.
THEMES: dict[str, dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
RUN = """async options => {
  const {violations} = await axe.run({resultTypes: ["violations"], ...options});
  return violations.map(({id, impact, nodes}) => ({
    id, impact, nodes: nodes.map(({target, any}) => [String(target), any[0]?.message ?? ""]),
  }));
}"""
# Colors would fade from one theme into the other. The site's policy allows this way of adding a style.
STILL = """() => {
  const style = new CSSStyleSheet();
  style.replaceSync("*, ::before, ::after, ::backdrop { transition: none !important }");
  document.adoptedStyleSheets = [style];
}"""


def problems(page: Page, addresses: Sequence[str]) -> list[str]:
    """Return what axe finds serious on these pages in either theme, a line each."""
    page.emulate_media(reduced_motion="reduce")
    lines = []
    for address in addresses:
        with settled(page):
            page.goto(address)
        lines += findings(page, address)
    return lines


def findings(page: Page, name: str) -> list[str]:
    """Return what axe finds serious on the page as it stands, in either theme."""
    page.evaluate(STILL)
    lines = []
    for theme, options in THEMES.items():
        page.emulate_media(color_scheme=theme)
        wait_until(page, f"document.documentElement.dataset.bsTheme === '{theme}'")
        lines += [f"{name} {theme} {line}" for line in _serious(page, options)]
    page.evaluate("document.adoptedStyleSheets = []")
    return lines


def _serious(page: Page, options: dict[str, Any]) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return [
        f"{one['id']} at {target}: {message}"
        for one in page.evaluate(RUN, options)
        if one["impact"] in SERIOUS
        for target, message in one["nodes"]
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
    shares.create_share(owner=user, folder_id=holiday.pk, password="open sesame", can_download=False)
    gone = upload(user, "gone.jpg", seed=2)
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[gone.pk]))
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
        return shares.path_of(shares.create_share(owner=user, folder_id=holiday.pk, **terms))

    opened, closed, over = link(), link(password="open sesame"), link(label="over")
    Share.objects.filter(label="over").update(expires_at=timezone.now() - timedelta(days=1))
    files = [f"{opened}file/{file.pk}/" for file in holiday.files.all()]
    assert len(files) == 3
    found = problems(page, [opened, closed, over, *files])
    page.goto(closed)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("Wrong password.")).to_be_visible()
    found += findings(page, "wrong password")
    assert not found, "\n".join(found)


def test_dialogs_of_the_drive(user: User, holiday: Folder, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"/drive/folder/{holiday.pk}/")
    dialog = page.get_by_role("dialog")
    found = []
    for name in ("New folder", "Share this folder", "Keyboard"):
        page.get_by_role("link", name=name).click()
        expect(dialog).to_be_visible()
        found += findings(page, name)
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    page.keyboard.press("ControlOrMeta+a")
    page.locator("#bulk-bar").get_by_role("button", name="Move", exact=True).click()
    expect(dialog).to_be_visible()
    found += findings(page, "Move")
    page.keyboard.press("Escape")
    choose(page, ("sea.jpg", picture_bytes(seed=4)))
    expect(page.get_by_role("dialog", name="Some names already exist")).to_be_visible()
    found += findings(page, "Conflict")
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("#drive-tray-title")).to_have_text("All uploaded")
    found += findings(page, "Tray")
    assert not found, "\n".join(found)
