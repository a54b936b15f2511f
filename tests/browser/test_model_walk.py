"""End-to-end test of a seller: upload, convert, try and run a checkpoint of Ultralytics."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from market.models import Conversion, ConversionState, Listing, Weights
from processing.models import Item, Job, State
from tests.browser.conftest import wait_until
from tests.browser.test_axe import problems
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import wait_for_jobs
from tests.workers.families import samples
from tests.workers.families.models import facts_of, fixed

pytestmark = [pytest.mark.browser, pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A detector with random weights, saved as `YOLO.save` does, that is sure enough to find something."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.names, model.args = {0: "cat", 1: "dog"}, {"imgsz": 64, "task": "detect"}
    for branch in model.model[-1].cv3:
        # So that every place of the grid is about half as sure as can be.
        torch.nn.init.constant_(branch[-1].bias, 0.0)
    path = tmp_path / "best.pt"
    torch.save({"epoch": -1, "model": model.half(), "train_args": model.args, "version": "8.4.190"}, path)
    return path


def test_from_a_checkpoint_to_detections(
    user: User,
    checkpoint: Path,
    signed_in_page: Callable[..., Page],
    celery_worker: Callable[..., LiveWorker],
) -> None:
    celery_worker()
    upload(user, "sea.jpg", data=picture_bytes(width=640, height=480))
    page = signed_in_page(user)
    page.goto("/models/")
    page.get_by_role("link", name="New model").first.click()
    page.get_by_label("Or upload weights").set_input_files(checkpoint)
    page.get_by_label("Name").fill("pets")
    page.get_by_role("button", name="Check and convert").click()
    page.wait_for_url("**/models/conversions/**")
    expect(page.get_by_text("The model is ready to run.")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("YOLO11 detector")).to_be_visible()
    speeds = page.get_by_role("table").filter(has_text="Trial: first image").locator("tbody tr")
    expect(speeds).to_have_text(re.compile(r"pixels\s+[\d.]+ m?s\s+[\d.]+ m?s\s+–"))
    samples = page.get_by_role("img", name="Result of the model")
    expect(samples).to_have_count(3)
    for shown in samples.all():
        shown.scroll_into_view_if_needed()
    wait_until(page, "[...document.querySelectorAll('figure img')].every(image => image.naturalWidth > 0)")
    conversion = Conversion.objects.get()
    assert conversion.state == ConversionState.SUCCEEDED
    assert problems(page, ["/models/", "/models/new/", f"/models/conversions/{conversion.pk}/"]) == []

    page.goto(f"/models/conversions/{conversion.pk}/")
    page.get_by_role("link", name="Try model").click()
    page.wait_for_url("**/pets/")
    expect(page.locator("#found-said")).to_have_text(re.compile(r"^\d+ of \d+ shown$"))
    expect(page.locator("#preview-after[src^='blob:']")).to_be_visible()
    boxes = page.locator("#found-classes input")
    total = int(page.locator("#found-said").inner_text().split()[2])
    assert total > 0

    # Narrowed on the data: nothing is asked of the server.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    boxes.first.uncheck()
    expect(page.locator("#found-picture")).to_be_visible()
    expect(page.locator("#preview-after")).to_be_hidden()
    left = int(page.locator("#found-said").inner_text().split()[0])
    assert left < total
    page.locator("#found-confidence").fill("100")
    expect(page.locator("#found-said")).to_have_text(f"0 of {total} shown")
    assert '"predictions": []' in (page.locator("#found-json").text_content() or "")
    page.locator("#found-confidence").fill("0")
    boxes.first.check()
    expect(page.locator("#preview-after")).to_be_visible()
    assert [url for url in asked if "/preview/" in url] == []

    page.locator("#run").click()
    page.wait_for_url("**/jobs/**")
    expect(page.locator("#job-state .badge").first).to_have_text("Succeeded", timeout=60_000)
    item = Item.objects.get(job=Job.objects.get())
    assert item.state == State.SUCCEEDED
    assert item.output["image"] == {"width": 640, "height": 480}
    assert {file.name for file in (output.file for output in item.outputs.all())} == {"sea.jpg", "sea.json"}
    assert Weights.objects.get().facts["classes"] == ["cat", "dog"]
    page.goto(f"/apps/{user.handle}/pets/?tab=about")
    expect(speeds).to_have_text(re.compile(r"pixels\s+[\d.]+ m?s\s+[\d.]+ m?s\s+[\d.]+ m?s\s+1 image"))
    assert problems(page, ["/models/", page.url]) == []


def test_a_checkpoint_that_names_code_is_refused_in_words(
    user: User,
    tmp_path: Path,
    signed_in_page: Callable[..., Page],
    celery_worker: Callable[..., LiveWorker],
) -> None:
    import torch

    marker = tmp_path / "marker"

    class Attack:
        def __reduce__(self) -> object:
            import os

            return os.system, (f"touch {marker}",)

    path = tmp_path / "evil.pt"
    torch.save({"model": Attack()}, path)
    celery_worker()
    page = signed_in_page(user)
    page.goto("/models/new/")
    page.get_by_label("Or upload weights").set_input_files(path)
    page.get_by_label("Name").fill("evil")
    page.get_by_role("button", name="Check and convert").click()
    expect(page.get_by_text("These weights were refused.")).to_be_visible(timeout=60_000)
    assert page.locator("#conversion .alert").inner_text().strip()
    assert not marker.exists()
    assert not Weights.objects.exists()
    assert problems(page, [page.url]) == []


def test_an_onnx_model_waits_for_a_word(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker]
) -> None:
    graph = fixed(facts_of("detect", samples.NAMES), samples.anchors())
    file = upload(user, "finder.onnx", data=graph.read("model.onnx"))
    celery_worker()
    page = signed_in_page(user, java_script_enabled=False)
    page.goto(f"/models/new/?file={file.pk}")
    page.get_by_label("Name").fill("finder")
    page.get_by_label("Share with everyone").check()
    page.get_by_role("button", name="Check and convert").click()
    conversion = Conversion.objects.get()
    wait_for_jobs.wait_until(lambda: not Conversion.objects.get().is_open, "it has ended", seconds=120)
    page.goto(f"/models/conversions/{conversion.pk}/")
    expect(page.get_by_text("Needs confirmation")).to_be_visible()
    assert Listing.objects.get(name="finder").visibility == "private"
    with_scripts = signed_in_page(user)
    assert problems(with_scripts, ["/models/", f"/models/conversions/{conversion.pk}/"]) == []

    expect(page.get_by_label("Detects objects: one column per anchor")).to_be_checked()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Confirmed. You can share the model now.")).to_be_visible()
    expect(page.get_by_text("The model is ready to run.")).to_be_visible()
    assert Listing.objects.get(name="finder").visibility == "public"


def test_the_form_works_without_scripts(user: User, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user, java_script_enabled=False)
    page.goto("/models/new/")
    page.get_by_label("Name").fill("pets")
    page.get_by_role("button", name="Check and convert").click()
    expect(page.get_by_text("Choose weights in your drive, or upload a file.")).to_be_visible()
    assert page.get_by_label("Name").input_value() == "pets"
