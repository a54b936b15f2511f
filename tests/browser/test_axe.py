"""Accessibility, as far as axe can tell: nothing serious on any main page, in either theme."""

from collections.abc import Callable, Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from accounts.models import User
from drive import services, work
from drive.views.viewer import LOOKS
from processing.models import Output
from tests.drive.drives import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing.jobs import submit, take_turns

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SERIOUS = {"serious", "critical"}


THEMES = ("light", "dark")


def problems(page: Page, addresses: Sequence[str]) -> list[str]:
    """Return what axe finds serious on these pages in either theme, a line each."""
    lines = []
    for theme in THEMES:
        # Before the page is loaded: colours would fade from one theme into the other.
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for address in addresses:
            page.goto(address)
            page.wait_for_load_state("networkidle")
            lines += [f"{address} {theme} {line}" for line in _findings(page)]
    return lines


def _findings(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{one['id']} at {node['target']}: {node['any'][0]['message'] if node['any'] else ''}"
        for one in violations
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def test_pages_for_everybody(page: Page, celery_worker: Callable[..., LiveWorker]) -> None:
    celery_worker(queues="preview")
    addresses = ["/", "/apps/", "/apps/ipau/mosaic/", "/accounts/login/", "/accounts/signup/", "/nothing/"]
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
