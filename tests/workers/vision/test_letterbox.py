"""Pictures far larger than a model's input are shown as those who trained it show them: from all of their
pixels."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import draw, encode
from workers import engine
from workers.bundle import FolderModel
from workers.media.picture import Picture
from workers.media.pixels import view_pixels
from workers.plugin import Context
from workers.recipe import Recipe
from workers.vision.letterbox import Letterbox, fill_cropped, fill_stretched

DETECTOR = Path("deploy/demo_models/shapes-detector/model")
# Up to some two, some three, four and more times as large as the input, and hardly any of them a whole
# number.
SIZES = [(403, 300), (640, 480), (768, 768), (815, 613), (1200, 160), (2000, 1500)]


def _encode(size: tuple[int, int], kind: str) -> bytes:
    # Fine lines: what is averaged looks another than what is sampled.
    pixels = np.asarray(draw(*size, seed=3)).copy()
    pixels[::3] = 255 - pixels[::3]
    return encode(Image.fromarray(pixels), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_square", [True, False])
def test_detectors_see_the_very_pixels_that_ultralytics_shows(
    size: tuple[int, int], kind: str, is_square: bool
) -> None:
    from ultralytics.data.augment import LetterBox

    data = _encode(size, kind)
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    theirs = LetterBox((192, 192), auto=not is_square, stride=32)(image=image).transpose(2, 0, 1)[None]
    place = Letterbox.fit(size, (192, 192), None if is_square else 32)
    ours = place.fill(Picture.open(data))
    assert ours.shape == theirs.shape
    assert np.array_equal(np.rint(ours * 255), theirs)


@pytest.mark.parametrize("scale", [2.1, 3, 4, 5.3])
def test_the_same_boxes_are_found_in_large_pictures(scale: float) -> None:
    """The detector of shapes that comes along, over the input that Ultralytics makes."""
    from ultralytics.data.augment import LetterBox

    model = FolderModel(DETECTOR)
    side = model.facts["input"]["width"]
    image = _draw_shapes(round(side * scale))
    data = encode(image, "JPEG")
    found = _find(model, data)
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    shown = LetterBox((side, side), auto=False)(image=pixels)
    wanted = _find(model, encode(Image.fromarray(shown), "PNG"))
    assert len(found) == len(wanted) > 2
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours["class"], ours["confidence"]) == (
            theirs["class"],
            pytest.approx(theirs["confidence"], abs=1e-4),
        )
        for name in ("x", "y", "width", "height"):
            assert ours[name] == pytest.approx(theirs[name] * image.width / side, abs=0.05)


def _find(model: FolderModel, data: bytes) -> list[dict[str, Any]]:
    recipe = Recipe.single("yolo", {"result": "data"}, weights=model.key)
    told = engine.run(recipe, data, Context(models={model.key: model})).data
    assert isinstance(told, dict)
    return told["predictions"]  # type: ignore[return-value]


def _draw_shapes(side: int) -> Image.Image:
    """The shapes of the samples, at any size."""
    return (
        Image.open("workers/trials/pictures/shapes.jpg")
        .convert("RGB")
        .resize((side, side), Image.Resampling.BICUBIC)
    )


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"])
@pytest.mark.parametrize("size", SIZES)
def test_classifiers_see_the_pixels_that_pillow_resizes(size: tuple[int, int], resample: str) -> None:
    data = _encode(size, "JPEG")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short, wanted = min(size), 128
    sides = int(wanted * size[0] / short), int(wanted * size[1] / short)
    left, top = round((sides[0] - 112) / 2), round((sides[1] - 112) / 2)
    chosen = Image.Resampling[resample.upper()]
    theirs = np.asarray(image.resize(sides, chosen).crop((left, top, left + 112, top + 112)))
    ours = fill_cropped(Picture.open(data), 112, 3, 112 / 128, resample)[0].transpose(1, 2, 0) * 255
    assert np.abs(ours - theirs).max() <= 1.01
    squeezed = np.asarray(image.resize((128, 128), chosen).crop((8, 8, 120, 120)))
    ours = fill_stretched(Picture.open(data), 112, 3, 112 / 128, resample)[0].transpose(1, 2, 0) * 255
    assert np.abs(ours - squeezed).max() <= 1.01


@pytest.mark.parametrize("size", [(1, 1), (37, 5), (2448, 1632), (3000, 2900)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_looked_at_where_they_lie(size: tuple[int, int], mode: str) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 256, (size[1], size[0], 3) if mode == "RGB" else size[::-1], np.uint8)
    image = Image.fromarray(drawn)
    assert image.mode == mode
    seen = view_pixels(image)
    # Pillow keeps more than 16 MiB in several pieces.
    is_view = size[0] * size[1] * (4 if mode == "RGB" else 1) <= 2**24
    assert is_view or seen.base is None or seen.shape[-1] == 3
    if mode == "RGB" and is_view:
        assert seen.shape[2] == 4
        assert not seen.flags.writeable
    del image
    gc.collect()
    assert np.array_equal(seen[..., :3] if mode == "RGB" else seen, drawn)


def test_pixels_of_other_kinds_are_copied() -> None:
    image = Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    assert view_pixels(image).tolist() == np.asarray(image).tolist()
