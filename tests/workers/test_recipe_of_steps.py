"""Recipes with several steps: one decode and one encode, step names, labels and parameter images."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import Folder, decode, draw, encode, pixels
from workers import engine, registry
from workers.media.picture import Picture
from workers.plugin import IMAGE, Context, Operation, OutputSpec, Params, PictureView, Result, slider
from workers.recipe import Recipe, Step, find_misfit, label_texts, name_steps

TEXT = OutputSpec("text", "text", "Text")


def recipe(*steps: tuple[str, dict[str, Any]]) -> Recipe:
    return Recipe(steps=tuple(Step(operation=key, params=params) for key, params in steps))


def picture_of(outcome: engine.RecipeResult) -> Image.Image:
    return decode(next(file.data for file in outcome.files if file.label == "image"))


def flat(color: tuple[int, int, int]) -> bytes:
    return encode(Image.new("RGB", (32, 32), color), "PNG")


# --- Names, labels, matching inputs and outputs.


@pytest.mark.parametrize(
    ("operations", "names"),
    [
        (["mosaic"], ("mosaic",)),
        (["mosaic", "ascii", "mosaic", "mosaic"], ("mosaic", "ascii", "mosaic2", "mosaic3")),
        # An operation's key may equal the name of a repeated step.
        (["mosaic", "mosaic2", "mosaic"], ("mosaic", "mosaic2", "mosaic3")),
        (["mosaic", "mosaic", "mosaic2"], ("mosaic", "mosaic2", "mosaic22")),
    ],
)
def test_names_of_steps_are_unique(operations: list[str], names: tuple[str, ...]) -> None:
    assert name_steps(operations) == names
    for length in range(len(operations)):
        assert name_steps(operations[:length]) == names[:length]


def test_labels_of_texts_are_unique() -> None:
    assert label_texts([[IMAGE, TEXT], [IMAGE], [TEXT]]) == ({"text": "text"}, {}, {"text": "text2"})


def test_a_step_without_input_image_is_found() -> None:
    assert find_misfit([[IMAGE], [IMAGE, TEXT], [TEXT]]) is None
    assert find_misfit([[IMAGE], [TEXT], [IMAGE]]) == 2


# --- One decode, one encode.


def test_two_steps_equal_two_runs_with_a_lossless_file_between_them() -> None:
    first = ("pixelart", {"block": 9, "palette": "adaptive", "colors": 24})
    second = ("blackwhite", {"method": "rec709", "contrast": 30})
    source = encode(draw(320, 200), "JPEG", quality=70)
    between = engine.run(recipe(first), source, output=engine.OutputOptions(format="PNG"))
    apart = engine.run(recipe(second), between.files[0].data, output=engine.OutputOptions(format="PNG"))
    together = engine.run(recipe(first, second), source, output=engine.OutputOptions(format="PNG"))
    assert np.array_equal(pixels(picture_of(together)), pixels(picture_of(apart)))
    # A JPEG in between gives another result, so the assertion above can fail.
    lossy = engine.run(recipe(first), source, output=engine.OutputOptions(format="JPEG"))
    again = engine.run(recipe(second), lossy.files[0].data, output=engine.OutputOptions(format="PNG"))
    assert not np.array_equal(pixels(picture_of(together)), pixels(picture_of(again)))


def test_a_chain_decodes_once_and_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    decode_bytes, encode_picture = Picture._decode, engine.encode_image

    def counted_decode(self: Picture, *args: Any) -> Image.Image:
        calls.append("decode")
        return decode_bytes(self, *args)

    def counted_encode(*args: Any) -> Any:
        calls.append("encode")
        return encode_picture(*args)

    monkeypatch.setattr(Picture, "_decode", counted_decode)
    monkeypatch.setattr(engine, "encode_image", counted_encode)
    steps = recipe(
        ("pixelart", {"block": 6}), ("mosaic", {"mode": "blocks"}), ("pixelart", {}), ("blackwhite", {})
    )
    data = encode(draw(300, 200), "PNG")
    engine.run(steps, data)
    assert calls == ["decode", "encode"]


# --- Folders.


def test_two_mosaics_use_separate_folders() -> None:
    red, blue = Folder([flat((250, 0, 0))]), Folder([flat((0, 0, 250))])
    steps = recipe(
        ("mosaic", {"tile": 16, "color_match": 0}),
        ("mosaic", {"tile": 16, "color_match": 0}),
    )
    data = encode(draw(96, 64), "PNG")
    outcome = engine.run(steps, data, Context(pictures={"mosaic.tiles": blue, "mosaic2.tiles": red}))
    mean = pixels(picture_of(outcome))[..., :3].reshape(-1, 3).mean(axis=0)
    assert mean[0] > 200 > 50 > mean[2]
    first_only = recipe(("mosaic", {"tile": 16, "color_match": 0}))
    outcome = engine.run(first_only, data, Context(pictures={"mosaic.tiles": blue, "mosaic2.tiles": red}))
    mean = pixels(picture_of(outcome))[..., :3].reshape(-1, 3).mean(axis=0)
    assert mean[2] > 200 > 50 > mean[0]


# --- Texts, data and scales.


class NoteParams(Params):
    number: int = slider(1, ge=0, le=9, title="Number", help="What is written.")


class Note(Operation[NoteParams]):
    """Returns a number as text and data and the image unchanged, and records the scale of its context."""

    key = "note"
    title = "Note"
    summary = "Writes a number."
    description = "Writes a number, for tests of the combined results of several steps."
    outputs = (IMAGE, TEXT)
    Params = NoteParams
    scales: ClassVar[list[float]] = []

    def run(self, picture: PictureView, params: NoteParams, context: Context) -> Result:
        self.scales.append(context.scale)
        return Result(picture.rgb(), texts={"text": str(params.number)}, data={"n": params.number})


def test_texts_and_data_of_all_steps_are_kept() -> None:
    with registry.register(Note()):
        outcome = engine.run(recipe(("note", {"number": 3}), ("note", {"number": 4})), encode(draw(), "PNG"))
    texts = {file.label: file.data for file in outcome.files if file.label != "image"}
    assert texts == {"text": b"3", "text2": b"4"}
    assert outcome.data == {"note": {"n": 3}, "note2": {"n": 4}}


def test_the_scale_of_a_preview_is_1_after_a_step_that_sets_its_own_size() -> None:
    data = encode(draw(800, 400), "PNG")
    Note.scales.clear()
    with registry.register(Note()):
        engine.preview(recipe(("note", {}), ("ascii", {}), ("note", {})), data, max_side=200)
    assert Note.scales == [0.25, 1.0]


def test_a_preview_of_blocks_over_letters_looks_like_its_result() -> None:
    steps = recipe(
        ("ascii", {"columns": 40, "size": 16}),
        ("mosaic", {"mode": "blocks", "area": "whole", "block": 40}),
    )
    data = encode(draw(1600, 1200), "JPEG")
    real = picture_of(engine.run(steps, data)).convert("L")
    shown = picture_of(engine.preview(steps, data, max_side=1024)).convert("L")
    near = np.asarray(real.resize(shown.size, Image.Resampling.BOX), dtype=float)
    assert np.abs(near - np.asarray(shown, dtype=float)).mean() < 4
