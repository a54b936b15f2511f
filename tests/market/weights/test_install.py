"""Installed models: they are verified, published, and produce the documented results."""

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from accounts.models import PLATFORM_HANDLE, User
from ipau import demo
from ipau.common.errors import Invalid
from market.listings import services
from market.models import Listing, Version, Weights
from market.weights import conversion_queue, tasks, trials
from market.weights.install import install_model
from processing.execution import work
from processing.models import Item

pytestmark = pytest.mark.django_db

DETECTOR = demo.MODELS / "shapes-detector"
WORDS = {"title": "Shapes", "summary": "Finds shapes.", "description": "Only shapes."}


@pytest.fixture
def platform(db: None) -> User:
    services.sync_builtin_listings()
    return User.objects.get(handle=PLATFORM_HANDLE)


def install(owner: User, folder: Path = DETECTOR / "model", **words: str) -> Version:
    return install_model(owner=owner, folder=folder, name="shapes", **(WORDS | words))


def test_a_model_is_published_once_and_its_texts_can_change(platform: User, user: User) -> None:
    first = install(platform)
    again = install(platform, title="Shapes detector")
    assert again == first
    assert Weights.objects.count() == 1
    seen = services.get_listing(user=user, owner=PLATFORM_HANDLE, name="shapes")
    assert (seen.kind, seen.visibility, seen.title) == ("model", "public", "Shapes detector")


def test_an_upgrade_of_the_apps_leaves_it_public(platform: User) -> None:
    listing = install(platform).listing
    services.sync_builtin_listings()
    assert Listing.objects.get(pk=listing.pk).visibility == "public"


@pytest.mark.parametrize("harm", ["changed", "missing", "more"])
def test_an_incomplete_folder_is_refused(platform: User, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DETECTOR / "model", folder)
    if harm == "changed":
        with (folder / "model.onnx").open("r+b") as graph:
            graph.write(b"\0")
    elif harm == "missing":
        (folder / "weights.safetensors").unlink()
    else:
        (folder / "more.pkl").write_bytes(b"")
    with pytest.raises(Invalid, match="The folder “model” contains no converted model"):
        install(platform, folder)
    assert not Listing.objects.filter(name="shapes").exists()


def test_the_demo_runs_each_model_on_its_images(platform: User, user: User) -> None:
    def work_a_little() -> None:
        work.take_turn(user.pk, "cpu")

    rows = {row.app: (row.images, row.failed) for row in demo.Demo(work_a_little).run_models(user)}
    assert rows == {
        "Colored pencil": (1, 0),
        "Double size": (1, 0),
        "Pattern classifier": (6, 0),
        "Shapes classifier": (4, 0),
        "Shapes detector": (6, 0),
        "Shapes segmenter": (1, 0),
    }
    named = Item.objects.filter(job__version__listing__name__endswith="-classifier")
    # The content of the images, as drawn by `make train-demo`.
    drawn = {"star", "square", "circle", "triangle", "dots", "waves", "stripes", "bricks", "rings", "checks"}
    assert {item.output["top"] for item in named} == drawn
    assert len(named) == len(drawn)
    outlined = Item.objects.get(job__version__listing__name="shapes-segmenter")
    assert classes(outlined.output) == ["circle", "square", "star", "triangle"]
    items = Item.objects.filter(job__version__listing__name="shapes-detector").order_by("name")
    found: list[list[str]] = [classes(item.output) for item in items]
    assert found[1] == ["star", "star"]
    assert sum(len(each) for each in found) >= 12


def test_models_of_the_demo_get_one_trial(platform: User, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(demo, "send_trial", lambda *, weights_id: sent.append(weights_id))
    weights = install(platform).weights
    site = demo.Demo(lambda: None)
    site.try_models()
    assert weights is not None
    assert sent == [str(weights.pk)]
    tasks.send_trial(weights_id=sent[0])
    assert conversion_queue.take_turn()
    assert not conversion_queue.take_turn()
    speed = weights.speeds.get()
    assert speed.first_ms > 0
    assert speed.runs > 1
    assert weights.samples.filter(after__isnull=False).exists()
    site.try_models()
    assert len(sent) == 1


def test_models_of_the_demo_have_their_own_samples(platform: User, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(demo, "send_trial", lambda *, weights_id: sent.append(weights_id))
    listing = install_model(owner=platform, folder=DETECTOR / "model", name=DETECTOR.name, **WORDS).listing
    for _ in range(2):
        demo.Demo(lambda: None).try_models()
        assert listing.chosen_samples.count() == len(list(DETECTOR.glob("*.jpg")))


def test_deleted_weights_get_no_trial(db: None) -> None:
    assert not trials.run_trial(uuid4())


def classes(output: Any) -> list[str]:
    return sorted(each["class"] for each in output["predictions"])
