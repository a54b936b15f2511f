"""Generators on images: tiles, whole images, and images from noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workers.families.gan import enlargers, generators
from tests.workers.families.gan.layers import Sample, upload_of
from tests.workers.media.samples import decode, draw, encode, kinds
from workers import bundle, engine, registry
from workers.bundle import FolderModel
from workers.families.gan import family as gan
from workers.media.decode import DecodeLimits
from workers.plugin import Context, Family, OperationError
from workers.recipe import Recipe

SAMPLES = {
    "compact": enlargers.srvgg(features=8, convolutions=3),
    "gray": enlargers.srvgg(channels=1),
    "wide": enlargers.srvgg(1, features=24, convolutions=0),
    "esrgan": enlargers.rrdb(blocks=1),
    "resnet": generators.resnet(),
    "resnet, batch": generators.resnet("batch"),
    "unet": generators.unet(),
    "noise": generators.dcgan(),
}
KINDS = kinds()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FolderModel]:
    torch.set_num_threads(1)
    made = {}
    for name, sample in SAMPLES.items():
        folder = tmp_path_factory.mktemp("model")
        bundle.write(registry.get("gan").convert(upload_of(sample.state)), folder)
        made[name] = FolderModel(folder)
    return made


def _recipe(model: FolderModel, **params: Any) -> tuple[Recipe, Context]:
    return Recipe.single("gan", params, weights=model.key), Context(models={model.key: model})


def _run(model: FolderModel, data: bytes, **params: Any) -> Image.Image:
    recipe, context = _recipe(model, **params)
    return decode(engine.run(recipe, data, context).files[0].data)


def _preview(model: FolderModel, data: bytes, side: int, **params: Any) -> Image.Image:
    recipe, context = _recipe(model, **params)
    return decode(engine.preview(recipe, data, context, max_side=side).files[0].data)


def _expected(sample: Sample, image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    planes = pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]
    made = sample.forward(torch.from_numpy(planes.copy()).float() / 255)[0].numpy()
    return np.rint(made * 255).transpose(1, 2, 0).squeeze()


# --- In tiles.


@pytest.mark.parametrize("name", ["compact", "esrgan", "resnet, batch"])
def test_tiles_give_what_the_whole_picture_gives(
    name: str, models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = draw(160, 112)
    expected = _expected(SAMPLES[name], image)
    monkeypatch.setattr(gan, "TILE_BYTES", 1)
    sides = _watch_tiles(monkeypatch)
    made = np.asarray(_run(models[name], encode(image, "PNG")))
    assert made.shape == expected.shape
    assert len(sides) > 1
    assert np.abs(made - expected).max() <= 1


def _watch_tiles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Collect the shapes that networks are run with."""
    seen: list[tuple[int, ...]] = []
    run = gan.Session.run

    def watch(self: gan.Session, pixels: np.ndarray) -> list[np.ndarray]:
        seen.append(pixels.shape)
        return run(self, pixels)

    monkeypatch.setattr(gan.Session, "run", watch)
    return seen


def test_a_large_picture_needs_no_large_memory(models: dict[str, FolderModel]) -> None:
    """A picture and its result grow by a few bytes a pixel, but not what the network takes."""
    code = """
import io, sys
from pathlib import Path
from PIL import Image
from workers import engine
from workers.plugin import Context
from workers.recipe import Recipe
from workers.bundle import FolderModel
model = FolderModel(Path(sys.argv[1]))
context = Context(models={model.key: model})
for side in (600, 2000):
    data = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(data, "JPEG")
    engine.run(Recipe.single("gan", weights=model.key), data.getvalue(), context, with_thumbnail=False)
    # Not by getrusage, which begins with what the parent held.
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    model = models["wide"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(model.folder)],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    small, large = (int(line) * 1024 for line in done.stdout.split())
    pixels = 2000**2 - 600**2
    assert model.facts["architecture"]["pixel_bytes"] >= 190
    assert large - small < 40 * pixels


def _kept(model: FolderModel) -> str:
    return registry.get("gan").keeps(registry.validate("gan", {}), model.facts)


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_on_every_kind_of_picture(kind: str, models: dict[str, FolderModel]) -> None:
    before = decode(KINDS[kind])
    width, height = (before.height, before.width) if kind == "jpeg rotated" else before.size
    made = _run(models["compact"], KINDS[kind])
    assert made.size == (2 * width, 2 * height)
    assert _kept(models["compact"]) == "places"
    assert ("A" in made.getbands()) == ("alpha" in kind)


def test_transparency_is_enlarged_beside_the_colors(models: dict[str, FolderModel]) -> None:
    before = decode(KINDS["png alpha"])
    alpha = _run(models["compact"], KINDS["png alpha"]).getchannel("A")
    expected = before.getchannel("A").resize(alpha.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(alpha).astype(int) - np.asarray(expected)).max() <= 1


def test_a_gray_network_reads_and_writes_gray(models: dict[str, FolderModel]) -> None:
    image = draw(40, 30)
    made = _run(models["gray"], encode(image, "PNG"))
    assert made.mode == "L"
    assert np.abs(np.asarray(made) - _expected(SAMPLES["gray"], image.convert("L"))).max() <= 1
    colored = _run(models["gray"], encode(image, "PNG"), keep_colors=True)
    assert colored.mode == "RGB"


def test_what_would_be_too_large_is_refused_before_it_is_begun(models: dict[str, FolderModel]) -> None:
    recipe, context = _recipe(models["esrgan"])
    data = encode(Image.new("RGB", (2000, 1600)), "PNG")
    with pytest.raises(OperationError, match=r"would have 8000 × 6400 pixels\. The limit is 50 megapixels"):
        engine.run(recipe, data, context)


# --- Settings.


def test_no_strength_leaves_the_picture_as_it_was(models: dict[str, FolderModel]) -> None:
    image = draw(60, 40)
    made = _run(models["resnet"], encode(image, "PNG"), strength=0)
    assert np.array_equal(np.asarray(made), np.asarray(image))


def test_half_the_strength_is_half_way(models: dict[str, FolderModel]) -> None:
    image = draw(60, 40)
    whole, half = (_run(models["resnet"], encode(image, "PNG"), strength=s) for s in (100, 50))
    middle = (np.asarray(whole).astype(float) + np.asarray(image)) / 2
    assert np.abs(np.asarray(half) - middle).max() <= 1


def test_kept_colors_are_those_of_the_picture(models: dict[str, FolderModel]) -> None:
    # A dull picture, whose colors fit whatever light and dark come out.
    image = Image.blend(draw(60, 40), Image.new("RGB", (60, 40), "gray"), 0.9)
    plain = _run(models["resnet, batch"], encode(image, "PNG"))
    kept = _run(models["resnet, batch"], encode(image, "PNG"), keep_colors=True)
    light, blue, red = (np.asarray(band).astype(int) for band in kept.convert("YCbCr").split())
    _, own_blue, own_red = (np.asarray(band).astype(int) for band in image.convert("YCbCr").split())
    inside = (light > 40) & (light < 215)
    assert inside.mean() > 0.3
    assert np.abs(blue - own_blue)[inside].max() <= 3
    assert np.abs(red - own_red)[inside].max() <= 3
    assert (
        np.abs(np.asarray(plain.convert("L")).astype(int) - np.asarray(kept.convert("L")))[inside].max() <= 3
    )


# --- Whole.


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_a_picture_within_the_working_size_goes_through_as_it_is(
    name: str, models: dict[str, FolderModel]
) -> None:
    image = draw(96, 64)
    made = np.asarray(_run(models[name], encode(image, "PNG")))
    assert np.abs(made - _expected(SAMPLES[name], image)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (37, 23), (900, 1), (2, 700)])
def test_sides_that_are_no_whole_strides_come_back_as_they_were(
    size: tuple[int, int], models: dict[str, FolderModel]
) -> None:
    for name in ("resnet", "unet", "resnet, batch"):
        assert _run(models[name], encode(draw(*size), "PNG")).size == size


def test_a_large_picture_is_worked_on_at_the_working_size(
    models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(draw(800, 400), "PNG")
    seen = _watch_tiles(monkeypatch)
    assert _run(models["resnet"], data, image_size=256).size == (800, 400)
    assert _run(models["resnet"], data, image_size=512).size == (800, 400)
    assert seen == [(1, 3, 128, 256), (1, 3, 256, 512)]


def test_memory_bounds_the_working_size(
    models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixel_bytes = models["resnet"].facts["architecture"]["pixel_bytes"]
    monkeypatch.setattr(gan, "WHOLE_BYTES", pixel_bytes * 200 * 100)
    seen = _watch_tiles(monkeypatch)
    _run(models["resnet"], encode(draw(800, 400), "PNG"))
    assert seen == [(1, 3, 100, 200)]


# --- Previews.


@pytest.mark.parametrize("name", ["compact", "unet", "noise"])
def test_a_preview_looks_like_the_result(name: str, models: dict[str, FolderModel]) -> None:
    data = encode(draw(480, 320), "PNG")
    whole, shown = _run(models[name], data), _preview(models[name], data, 240)
    assert max(shown.size) <= 240
    assert abs(shown.width / shown.height - whole.width / whole.height) < 0.02

    def blur(image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((12, 8), Image.Resampling.BOX)).astype(float)

    assert np.abs(blur(whole) - blur(shown)).mean() < 12


def test_a_preview_enlarges_no_more_than_it_shows(
    models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _watch_tiles(monkeypatch)
    shown = _preview(models["esrgan"], encode(draw(800, 400), "PNG"), 400)
    assert shown.size == (400, 200)
    assert all(height <= 64 and width <= 112 for _, _, height, width in seen)


@pytest.mark.parametrize("name", ["esrgan", "resnet"])
def test_a_preview_of_a_heavy_network_is_worked_on_at_less(
    name: str, models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = models[name].facts
    # As much as 60 by 40 pixels take.
    monkeypatch.setattr(gan, "PREVIEW_FLOPS", facts["flops"] * 60 * 40 / 1024**2)
    seen = _watch_tiles(monkeypatch)
    scale = facts["scale"]
    shown = _preview(models[name], encode(draw(300, 200), "PNG"), 300)
    assert {shape[2:] for shape in seen} == {(40, 60)}
    assert shown.size == ((60 * scale, 40 * scale) if name == "esrgan" else (300, 200))
    seen.clear()
    assert _run(models[name], encode(draw(300, 200), "PNG")).size == (300 * scale, 200 * scale)
    assert max(shape[3] for shape in seen) > 60


def test_steps_after_an_enlarged_preview_know_its_scale(models: dict[str, FolderModel]) -> None:
    model = models["compact"]
    steps = Recipe.model_validate(
        {
            "steps": [
                {"operation": "gan", "weights": model.key},
                {"operation": "pixelart", "params": {"block": 32}},
            ]
        }
    )
    shown = engine.preview(
        steps, encode(draw(800, 400), "PNG"), Context(models={model.key: model}), max_side=400
    )
    # Of 1600 pixels the preview shows 400: a block of 32 has 8.
    pixels = np.asarray(decode(shown.files[0].data).convert("RGB")).astype(int)
    edges = np.flatnonzero(np.abs(np.diff(pixels, axis=1)).sum((0, 2)))
    assert len(edges)
    assert set((edges + 1) % 8) == {0}


# --- From noise.


def test_a_seed_draws_the_same_sheet_again(models: dict[str, FolderModel]) -> None:
    data = encode(draw(40, 30), "PNG")
    first, again, other = (_run(models["noise"], data, seed=seed) for seed in (3, 3, 4))
    assert first.size == (64, 64)
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert np.abs(np.asarray(first).astype(int) - np.asarray(other)).mean() > 5


def test_a_sheet_shows_what_the_network_makes_of_the_noise(models: dict[str, FolderModel]) -> None:
    made = np.asarray(_run(models["noise"], encode(draw(40, 30), "PNG"), columns=3, rows=7, seed=9))
    assert made.shape == (7 * 16, 3 * 16, 3)
    assert _kept(models["noise"]) == "nothing"
    noise = np.random.default_rng(9).standard_normal((21, 12, 1, 1), np.float32)
    expected = SAMPLES["noise"].forward(torch.from_numpy(noise)).numpy().transpose(0, 2, 3, 1) * 255
    for index in (0, 4, 20):
        row, column = divmod(index, 3)
        one = made[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        assert np.abs(one - expected[index]).max() <= 1


def test_a_sheet_too_large_is_refused_before_it_is_drawn(
    models: dict[str, FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _watch_tiles(monkeypatch)
    monkeypatch.setattr(gan, "LIMITS", DecodeLimits(max_pixels=64 * 63))
    with pytest.raises(OperationError, match="would have 64 × 64 pixels"):
        _run(models["noise"], encode(draw(40, 30), "PNG"))
    assert not seen


def test_each_setting_is_one_of_some_model(models: dict[str, FolderModel]) -> None:
    family = registry.get("gan")
    assert isinstance(family, Family)
    offered = {name: family.settings_for(models[name].facts) for name in ("compact", "resnet", "noise")}
    assert "image_size" in offered["resnet"]
    assert "image_size" not in offered["compact"]
    assert "strength" not in offered["noise"]
    assert {one for names in offered.values() for one in names} == family.schema()["properties"].keys()
