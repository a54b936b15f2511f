"""Photo mosaic: best tiles without repeats nearby. Pixelation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import Folder, decode, draw, encode, pixels
from workers import engine
from workers.cache import Cache
from workers.operations.mosaic import choose_tiles, load_tiles
from workers.plugin import Context, OperationError
from workers.recipe import Recipe


def run(image: Image.Image, format: str = "PNG", context: Context | None = None, **params: object):
    outcome = engine.run(Recipe.single("mosaic", params), encode(image, format), context)
    return decode(outcome.files[0].data)


def flat_folder(colors: list[tuple[int, int, int]]) -> Folder:
    return Folder([encode(Image.new("RGB", (40, 30), color), "PNG") for color in colors])


# --- Pixelation.


@pytest.mark.parametrize("block", [4, 10, 64, 256])
def test_blocks_are_the_means_of_what_they_cover(block: int) -> None:
    image = draw(130, 90)
    got, source = pixels(run(image, mode="blocks", block=block)), pixels(image)
    for y in range(0, 90, block):
        for x in range(0, 130, block):
            cell = got[y : y + block, x : x + block].reshape(-1, 3)
            assert np.all(cell == cell[0])
            mean = source[y : y + block, x : x + block].reshape(-1, 3).mean(axis=0)
            whole = x + block <= 130 and y + block <= 90
            assert np.abs(cell[0] - mean).max() <= (1.5 if whole else 12)


BOX = {"mode": "blocks", "area": "box", "block": 16, "x": 0.25, "y": 0.5, "width": 0.33, "height": 0.25}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_outside_the_box_nothing_changes(mode: str) -> None:
    image = draw(200, 120).convert(mode)
    got, source = pixels(run(image, **BOX).convert("RGBA")), pixels(image.convert("RGBA"))
    inside = np.zeros((120, 200), bool)
    inside[60:90, 50:116] = True
    assert np.array_equal(got[~inside], source[~inside])
    assert not np.array_equal(got[inside], source[inside])


def test_nothing_finer_than_a_block_is_left_inside_the_box() -> None:
    """Two pictures with equal block means cannot be told apart afterwards."""
    first, second = draw(200, 120), draw(200, 120)
    shuffled = pixels(second).astype(np.uint8)
    for y in range(60, 90, 16):
        for x in range(50, 116, 16):
            bottom, right = min(y + 16, 90), min(x + 16, 116)
            shuffled[y:bottom, x:right] = shuffled[y:bottom, x:right][::-1, ::-1].copy()
    assert not np.array_equal(shuffled, pixels(first))
    assert np.array_equal(pixels(run(first, **BOX)), pixels(run(Image.fromarray(shuffled), **BOX)))


def test_transparency_inside_the_box_is_blocked_too() -> None:
    image = draw(64, 64)
    image.putalpha(Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)))
    alpha = pixels(run(image, mode="blocks", area="box", x=0, y=0, width=0.5, height=1, block=32))[..., 3]
    assert set(np.unique(alpha[:, :32])) <= {127, 128}
    assert set(np.unique(alpha[:, 32:])) == {0, 255}


def test_a_box_that_hangs_over_is_cut() -> None:
    got = run(draw(100, 80), mode="blocks", area="box", x=0.9, y=0.9, width=0.5, height=0.5)
    assert got.size == (100, 80)


def test_the_box_of_a_preview_lies_where_that_of_the_result_does() -> None:
    data = encode(draw(1200, 800), "PNG")
    params = {**BOX, "block": 100}
    small = engine.preview(Recipe.single("mosaic", params), data, max_side=300)
    plain = draw(1200, 800).resize((300, 200), Image.Resampling.BOX)
    apart = np.abs(pixels(decode(small.files[0].data)) - pixels(plain)).max(axis=2)
    ys, xs = np.nonzero(apart > 30)
    assert xs.min() >= 70
    assert xs.max() <= 180
    assert ys.min() >= 95
    assert ys.max() <= 155


# --- Photo mosaic.


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_the_result_has_the_picture_s_size(format: str) -> None:
    assert run(draw(333, 211), format, tile=24).size == (333, 211)


def test_each_cell_takes_the_tile_that_fits() -> None:
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]
    image = Image.new("RGB", (64, 64))
    for index, color in enumerate(colors):
        image.paste(color, (index % 2 * 32, index // 2 * 32, index % 2 * 32 + 32, index // 2 * 32 + 32))
    context = Context(pictures={"tiles": flat_folder(colors[::-1])})
    got = run(image, context=context, tile=32, color_match=0, radius=0)
    assert np.array_equal(pixels(got), pixels(image))


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 6])
def test_no_tile_repeats_within_the_radius(radius: int) -> None:
    rng = np.random.default_rng(radius)
    cells = rng.random((20 * 31, 27), dtype=np.float32) * 0.1
    chosen = choose_tiles(cells, rng.random((300, 27), dtype=np.float32), (20, 31), radius)
    assert chosen.min() >= 0
    assert chosen.max() < 300
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if (dy, dx) <= (0, 0):
                continue
            near = chosen[dy:, max(0, dx) : 31 + min(0, dx)]
            here = chosen[: 20 - dy, max(0, -dx) : 31 - max(0, dx)]
            assert not np.any(near == here), (dy, dx)


def test_without_a_radius_the_nearest_tile_is_taken() -> None:
    rng = np.random.default_rng(9)
    cells, tiles = rng.random((35, 27), dtype=np.float32), rng.random((50, 27), dtype=np.float32)
    nearest = ((cells[:, None] - tiles[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(choose_tiles(cells, tiles, (5, 7), 0).ravel(), nearest)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 10])
def test_the_radius_shrinks_where_tiles_are_few(count: int) -> None:
    rng = np.random.default_rng(1)
    chosen = choose_tiles(
        rng.random((64, 27), dtype=np.float32), rng.random((count, 27), dtype=np.float32), (8, 8), 6
    )
    assert chosen.max() < count
    if count >= 9:
        assert not np.any(chosen[:, 1:] == chosen[:, :-1])


def test_full_adaption_gives_each_cell_its_mean() -> None:
    image = Image.fromarray(
        np.repeat(np.repeat(np.random.default_rng(2).integers(40, 216, (4, 5, 3)), 32, 0), 32, 1).astype(
            np.uint8
        )
    )
    tiles = flat_folder([(30 * i, 128, 255 - 20 * i) for i in range(9)])
    got = run(image, context=Context(pictures={"tiles": tiles}), tile=32, color_match=100)
    assert np.abs(pixels(got) - pixels(image)).max() <= 2


def test_it_looks_like_the_picture() -> None:
    image = draw(640, 480)
    got = run(image, tile=16)
    cells = (40, 30)
    apart = pixels(got.resize(cells, Image.Resampling.BOX)) - pixels(
        image.resize(cells, Image.Resampling.BOX)
    )
    assert np.abs(apart).mean() < 12


def test_tiles_are_prepared_once_for_many_pictures() -> None:
    folder = Folder([encode(draw(60, 40, seed), "JPEG") for seed in range(10)])
    context = Context(pictures={"tiles": folder}, memo=Cache())
    run(draw(seed=1), context=context)
    opened = folder.opened
    run(draw(seed=2), context=context)
    assert folder.opened == opened == 10


def test_tiles_that_cannot_be_read_are_left_out() -> None:
    folder = Folder([b"no picture", encode(draw(), "PNG"), encode(draw(), "JPEG")[:300]])
    assert len(load_tiles(folder, 16).pixels) == 1


@pytest.mark.parametrize("files", [[], [b"no picture"]])
def test_a_folder_without_readable_images_is_rejected(files: list[bytes]) -> None:
    with pytest.raises(OperationError, match="has no readable image"):
        run(draw(), context=Context(pictures={"tiles": Folder(files)}))


def test_a_tile_is_the_middle_square() -> None:
    image = Image.new("RGB", (90, 30), (0, 0, 255))
    image.paste((255, 0, 0), (30, 0, 60, 30))
    tile = load_tiles(Folder([encode(image, "PNG")]), 12).pixels[0]
    assert np.all(tile == [255, 0, 0])
