"""Tests of videos and weights in a real browser: tiles, player, facts, and share pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.models import File
from drive.shares import services
from drive.uploads import work
from tests.browser.conftest import wait_until
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes
from tests.workers.checkpoints.weights_files import onnx_bytes, safetensors_bytes, torch_bytes
from tests.workers.media.videos import video_bytes
from tests.workers.sanitize.test_videos import TOLD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
# Plays and seeks; answers with the width, the height and the seconds that the player found.
PLAYED = """async (video) => {
    video.muted = true;
    await video.play();
    video.pause();
    await new Promise((done) => { video.onseeked = done; video.currentTime = 3; });
    return [video.videoWidth, video.videoHeight, Math.round(video.duration), video.currentTime];
}"""


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


@pytest.fixture
def files(user: User) -> dict[str, File]:
    contents = {
        "film.webm": video_bytes("webm", 320, 180, frames=40, fps=10, sound=True, metadata=TOLD),
        "upright.webm": video_bytes("webm", 180, 320, frames=40, fps=10),
        "detector.onnx": onnx_bytes(),
        "detector.pt": torch_bytes(),
        "detector.safetensors": safetensors_bytes(),
        "still.avif": picture_bytes("AVIF"),
        "sea.jpg": picture_bytes(),
    }
    made = {name: upload(user, name, data=data) for name, data in contents.items()}
    while work.inspect_uploads(user.pk):
        pass
    return made


def test_a_film_is_played_and_sought(
    user: User, files: dict[str, File], signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto("/drive/")
    expect(page.locator(f"#tile-{files['film.webm'].pk} .drive-video-badge")).to_contain_text("0:04")
    expect(page.locator(f"#tile-{files['detector.onnx'].pk}")).to_contain_text("Weights")
    page.get_by_role("link", name="film.webm").click()
    video = page.locator("video")
    expect(video).to_be_visible()
    assert video.evaluate(PLAYED) == [320, 180, 4, 3]
    expect(page.locator("#drive-facts")).to_contain_text("vp9")
    # In the player the arrows are the player's own: they seek, and lead to no other file.
    video.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_contain_text("film.webm")
    box = video.bounding_box()
    assert box is not None
    assert box["height"] > 300


def test_an_avif_is_shown(user: User, files: dict[str, File], signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.goto(reverse("drive:file", args=[files["still.avif"].pk]))
    picture = page.locator("#stage img").first
    expect(picture).to_be_visible()
    wait_until(page, "document.querySelector('#stage img').naturalWidth > 0")


@pytest.mark.parametrize("name", ["detector.onnx", "detector.pt", "detector.safetensors"])
def test_weights_tell_of_themselves(
    name: str, user: User, files: dict[str, File], signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(reverse("drive:file", args=[files[name].pk]))
    expect(page.get_by_role("rowheader", name="Format")).to_be_visible()
    expect(page.get_by_role("button", name="Run app")).to_have_count(0)


def test_a_visitor_plays_the_clean_copy(user: User, files: dict[str, File], page: Page) -> None:
    share = services.create_share(owner=user, file_id=files["film.webm"].pk)
    page.goto(services.path_of(share))
    assert page.locator("video").evaluate(PLAYED) == [320, 180, 4, 3]
