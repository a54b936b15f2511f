"""Contract tests for all families, with one model of each task."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.families import samples
from tests.workers.families.models import MemoryModel
from tests.workers.media.samples import decode, draw, encode, kinds, lay_down, pixels, with_exif
from tests.workers.operations import test_every_operation as operations
from workers import engine, registry
from workers.media.picture import Picture
from workers.plugin import Context, Family, OperationError
from workers.recipe import Recipe

FAMILIES = registry.all_families()
KINDS = kinds()
TASKS = samples.every_task()
# Those that run the models above; the others have batteries of their own, beside this file.
FINDERS = ("onnx", "yolo")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.key)
every_task = pytest.mark.parametrize("task", list(TASKS))


def run(model: MemoryModel, data: bytes, family: str = "yolo", **settings: object) -> engine.RecipeResult:
    recipe = Recipe.single(family, settings, weights=model.key)
    return engine.run(recipe, data, Context(models={model.key: model}))


def preview(model: MemoryModel, data: bytes, max_side: int, **settings: object) -> engine.RecipeResult:
    recipe = Recipe.single("yolo", settings, weights=model.key)
    return engine.preview(recipe, data, Context(models={model.key: model}), max_side=max_side)


def picture_of(outcome: engine.RecipeResult) -> Image.Image:
    return decode(next(file.data for file in outcome.files if file.label == "image"))


def told_of(outcome: engine.RecipeResult) -> dict[str, Any]:
    assert isinstance(outcome.data, dict)
    return outcome.data


def results_of(task: str) -> list[str]:
    """What can be made of a picture: a classifier finds no places."""
    return ["draw", "data"] if task == "classify" else ["draw", "blur", "crop", "data"]


# --- What it says of itself: as operations do.


@every_family
def test_it_describes_itself_and_its_settings(family: Family[Any]) -> None:
    operations.test_it_describes_itself(family)
    operations.test_each_setting_is_fully_declared(family)
    operations.test_defaults_are_valid_and_frozen(family)
    operations.test_form_strings_are_parsed(family)
    operations.test_bounds_are_enforced_with_sentences(family)
    operations.test_unknown_settings_are_refused(family)


@every_family
def test_it_recognises_nothing_in_an_empty_upload(family: Family[Any], tmp_path: Any) -> None:
    from workers.checkpoints.upload import WeightsUpload

    assert family.recognize(WeightsUpload("torch", tmp_path / "none", {}, {})) is None
    assert family.recognize(WeightsUpload("safetensors", tmp_path / "none")) is None


# --- What it does.


@every_task
@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_on_every_kind_of_picture(task: str, kind: str) -> None:
    # Both run the same code on these models: each gets every other kind.
    family = FINDERS[list(KINDS).index(kind) % 2]
    source = Picture.open(KINDS[kind])
    for result in results_of(task):
        if result == "crop" and max(source.width, source.height) == 1:
            continue  # no mask has a pixel there
        outcome = run(TASKS[task], KINDS[kind], family, result=result)
        data = told_of(outcome)
        assert data["image"] == {"width": source.width, "height": source.height}
        json.dumps(data, allow_nan=False)
        assert [file.label for file in outcome.files] == (
            ["detections"] if result == "data" else ["image", "detections"]
        )
        kept = registry.get(family).keeps(registry.validate(family, {"result": result}), TASKS[task].facts)
        assert (kept == "picture") == (result == "data")
        if result in ("draw", "blur"):
            assert kept == "places"
            assert picture_of(outcome).size == (source.width, source.height)
        if result == "crop":
            assert kept == "nothing"
        _check_places(data, source)


def _check_places(data: dict[str, Any], source: Picture) -> None:
    for told in data["predictions"]:
        assert 0 < told["confidence"] <= 1
        assert told["class"] == samples.NAMES[told["class_id"]]
        if "x" in told and "angle" not in told:
            assert (
                -0.01 <= told["x"] - told["width"] / 2 <= told["x"] + told["width"] / 2 <= source.width + 0.01
            )
            assert (
                -0.01
                <= told["y"] - told["height"] / 2
                <= told["y"] + told["height"] / 2
                <= source.height + 0.01
            )


def _variants(task: str) -> Iterator[dict[str, Any]]:
    yield from ({"result": result} for result in results_of(task))
    for name in ("boxes", "masks", "keypoints", "labels"):
        yield {name: False}
    yield from (
        {"confidence": 0.7},
        {"iou": 0.95},
        {"max_detections": 1},
        {"top_k": 1},
        {"line_width": 9},
        {"classes": "Dog"},
    )


@every_task
def test_every_setting_runs_and_gives_the_same_twice(task: str) -> None:
    data = encode(draw(130, 90), "JPEG")
    for variant in _variants(task):
        first, second = run(TASKS[task], data, **variant), run(TASKS[task], data, **variant)
        assert [file.data for file in first.files] == [file.data for file in second.files], variant


def test_each_setting_changes_something() -> None:
    data = encode(draw(300, 220), "PNG")
    plain = {task: [file.data for file in run(model, data).files] for task, model in TASKS.items()}
    left = set(registry.get("yolo").schema()["properties"]) - {"image_size"}
    for task, model in TASKS.items():
        for variant in _variants(task):
            if [file.data for file in run(model, data, **variant).files] != plain[task]:
                left -= variant.keys()
    assert left == set()


@every_task
@pytest.mark.parametrize("orientation", range(1, 9))
def test_results_are_upright(task: str, orientation: int) -> None:
    upright = draw(120, 80)
    expected = run(TASKS[task], encode(upright, "JPEG", quality=95))
    stored = with_exif(lay_down(upright, orientation), orientation=orientation, quality=95)
    got = run(TASKS[task], stored)
    assert got.data == expected.data
    assert picture_of(got).size == (120, 80)
    assert np.abs(pixels(picture_of(got)) - pixels(picture_of(expected))).mean() < 4


@every_task
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_no_metadata_gets_out(task: str, format: str) -> None:
    data = with_exif(draw(), format)
    assert b"SECRET" in data
    for result in results_of(task):
        for file in run(TASKS[task], data, result=result).files:
            assert b"SECRET" not in file.data
            assert b"Exif" not in file.data


@every_task
@pytest.mark.parametrize("kind", ["jpeg", "png", "png alpha", "jpeg gray"])
def test_the_picture_it_was_given_stays_as_it_was(task: str, kind: str) -> None:
    picture = Picture.open(KINDS[kind])
    views = [picture.rgb(), picture.rgb(flat=False), picture.gray(), picture.reduced(20, 10)]
    before = [view.tobytes() for view in views]
    model = TASKS[task]
    for result in results_of(task):
        params = registry.validate("yolo", {"result": result, "line_width": 5})
        registry.get("yolo").run(picture, params, Context(model=model))
    assert [view.tobytes() for view in views] == before


@every_task
def test_a_preview_tells_of_the_original_and_looks_like_the_result(task: str) -> None:
    data = encode(draw(1500, 1000), "JPEG", quality=90)
    whole, small = run(TASKS[task], data), preview(TASKS[task], data, 500)
    shown = picture_of(small)
    assert max(shown.size) == 500
    there, here = told_of(whole), told_of(small)
    # Though the shorter side of what is shown is a whole number of pixels: 333 for a third of 1000.
    assert there["image"] == here["image"] == {"width": 1500, "height": 1000}
    for big, little in zip(there["predictions"], here["predictions"], strict=True):
        assert big["class"] == little["class"]
        for name in ("x", "y", "width", "height"):
            assert little.get(name, 0) == pytest.approx(big.get(name, 0), abs=4)
    assert np.abs(operations._blur(picture_of(whole)) - operations._blur(shown)).mean() < 6


@every_task
def test_a_preview_of_a_small_picture_is_the_result(task: str) -> None:
    data = encode(draw(120, 80), "PNG")
    shown, whole = preview(TASKS[task], data, 2000), run(TASKS[task], data)
    assert shown.data == whole.data
    assert np.array_equal(pixels(picture_of(shown)), pixels(picture_of(whole)))


# --- What is made of what is found.


def test_only_the_classes_asked_for_are_found() -> None:
    data = encode(draw(), "PNG")

    def classes(written: str) -> list[str]:
        told = told_of(run(TASKS["detect"], data, classes=written, iou=0.5))
        return [one["class"] for one in told["predictions"]]

    assert classes(" ") == ["cat", "dog", "traffic light"]
    assert classes("Traffic Light, cat,") == ["cat", "traffic light"]
    assert classes("1") == ["dog"]
    with pytest.raises(
        OperationError, match=r"no class “bus”\. Its classes: cat, dog, traffic light"
    ) as caught:
        classes("cat, bus")
    assert caught.value.code == "unknown_class"
    for task, model in TASKS.items():
        told = told_of(run(model, data, classes="dog"))
        assert {one["class"] for one in told["predictions"]} == {"dog"}, task


def test_outside_of_what_is_found_blurring_changes_nothing() -> None:
    image = draw(128, 128)
    for task in ("detect", "segment", "obb"):
        got = pixels(picture_of(run(TASKS[task], encode(image, "PNG"), result="blur", classes="cat")))
        changed = (got != pixels(image)).any(axis=2)
        # The cat lies at (20, 30) of 64, 24 x 20 large, turned by 0.4.
        y, x = np.nonzero(changed)
        across, down = (x + 0.5) / 2 - 20, (y + 0.5) / 2 - 30
        if task == "obb":
            turned = np.cos(0.4), np.sin(0.4)
            across, down = across * turned[0] + down * turned[1], down * turned[0] - across * turned[1]
        assert np.abs(across).max() < 12.6
        assert np.abs(down).max() < 10.6
        area = {"detect": 1, "segment": np.pi / 4, "obb": 1}[task] * 48 * 40
        assert changed.sum() == pytest.approx(area, rel=0.1)


def test_what_is_blurred_cannot_be_told_apart() -> None:
    """Two pictures that differ in fine detail only look the same there, so nothing can bring it back."""
    image = draw(128, 128)
    noisy = pixels(image)
    noisy[48:72, 20:60] += np.indices((24, 40)).sum(axis=0)[..., None] % 2 * 60 - 30
    other = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    first, second = (
        pixels(picture_of(run(TASKS["detect"], encode(one, "PNG"), result="blur", classes="cat")))
        for one in (image, other)
    )
    assert np.abs(pixels(image) - pixels(other))[48:72, 20:60].mean() > 20
    assert np.abs(first - second)[48:72, 20:60].max() <= 8


def test_transparency_is_blurred_too() -> None:
    image = draw(64, 64)
    image.putalpha(Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)))
    got = picture_of(run(TASKS["detect"], encode(image, "PNG"), result="blur", classes="cat"))
    assert set(np.unique(pixels(got)[22:38, 10:30, 3])) <= set(range(120, 136))


def test_the_surest_is_cut_out() -> None:
    image = draw(128, 128)
    data = encode(image, "PNG")
    cut = picture_of(run(TASKS["detect"], data, result="crop"))
    assert np.array_equal(pixels(cut), pixels(image)[40:80, 16:64])
    freed = picture_of(run(TASKS["segment"], data, result="crop"))
    assert freed.mode == "RGBA"
    alpha = pixels(freed)[..., 3]
    assert (alpha[0, 0], alpha[20, 24]) == (0, 255)
    assert picture_of(run(TASKS["obb"], data, result="crop")).size == (48, 40)
    with pytest.raises(OperationError, match="No detections to crop") as caught:
        run(TASKS["detect"], data, result="crop", confidence=0.95)
    assert caught.value.code == "nothing_found"


@pytest.mark.parametrize("value", [1e9, -1e9, 3e38])
def test_a_model_that_puts_out_any_number_does_no_harm(value: float) -> None:
    """Uploaded weights may have been made for that: huge places, sides, angles and masks."""
    rng = np.random.default_rng(5)
    data = encode(draw(), "PNG")
    for task, more in (("detect", 0), ("segment", 4), ("pose", 51), ("obb", 1)):
        rows = rng.uniform(-1, 1, (1, 7 + more, 40)).astype(np.float32) * np.float32(value)
        rows[0, 4:7] = 0.9
        outputs = [rows] if task != "segment" else [rows, rng.normal(0, 1e3, (1, 4, 16, 16))]
        keypoints = {"keypoints": [17, 3]} if task == "pose" else {}
        facts = samples.facts_of(task, samples.NAMES, 64, layout="anchors", **keypoints)
        model = samples.fixed(facts, *outputs)
        begun = time.process_time()
        for result in ("draw", "blur", "crop", "data"):
            with contextlib.suppress(OperationError), np.errstate(over="ignore", invalid="ignore"):
                json.dumps(run(model, data, result=result).data, allow_nan=False)
        assert time.process_time() - begun < 5


def test_a_classifier_has_no_places() -> None:
    for result in ("blur", "crop"):
        with pytest.raises(OperationError, match="no boxes to blur or crop"):
            run(TASKS["classify"], KINDS["png"], result=result)


def test_lines_follow_the_size_of_the_picture() -> None:
    from workers.vision.draw import choose_line

    assert choose_line((640, 480), 0) == 2
    assert choose_line((6000, 4000), 0) == 15
    assert (choose_line((640, 480), 7), choose_line((640, 480), 0.2)) == (7, 1)


def test_labels_of_any_name_stay_inside() -> None:
    """Names come from strangers: long ones, control characters, other scripts."""
    from workers.vision.draw import Style, draw
    from workers.vision.instances import Instance

    names = ["x" * 500, "a\nb\tc\x00", "ป้ายจราจร", "", "‮evil", "🦊"]
    image = Image.new("RGB", (200, 100), (90, 90, 90))
    for name in names:
        corners = [(0.0, 0.0, 5.0, 5.0), (190.0, 90.0, 200.0, 100.0)]
        found = [Instance(box, 0.5, index, name) for index, box in enumerate(corners)]
        assert draw(image, found, Style()).size == (200, 100)


def test_neighbouring_classes_have_unlike_colors() -> None:
    from workers.vision.draw import color_of

    colors = np.array([color_of(class_id) for class_id in range(80)])
    assert len({tuple(color) for color in colors.tolist()}) == 80
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 100
