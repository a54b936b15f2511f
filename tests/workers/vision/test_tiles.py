"""Tiled inference gives the result of a single pass."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.vision import tiles
from workers.vision.tiles import Tiling


def _picture(height: int, width: int, channels: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def _blur(pixels: np.ndarray) -> np.ndarray:
    """The mean of 5 by 5 pixels: what is further away than 2 has no say."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (2, 3)).mean((-2, -1), dtype=np.float32)


def _double(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 2).repeat(2, 3)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    stride=st.sampled_from([1, 2, 4]),
    margin=st.integers(2, 9),
    more=st.integers(0, 30),
    scale=st.sampled_from([1, 2]),
)
def test_tiles_give_what_the_whole_gives(
    size: tuple[int, int], stride: int, margin: int, more: int, scale: int
) -> None:
    margin, fade = -(-margin // stride) * stride, 2 * stride
    side = -(-max(16, 2 * (2 * margin + fade) + more) // stride) * stride
    tiling = Tiling(side, margin, fade, stride, scale)
    pixels = _picture(*size)
    seen = []

    def forward(tile: np.ndarray) -> np.ndarray:
        seen.append(tile.shape)
        return _double(_blur(tile)) if scale == 2 else _blur(tile)

    made = tiles.run_tiled(pixels, forward, tiling)
    padded = tiles.to_input(tiles.pad_to(pixels, stride))
    whole = tiles.to_bytes(_double(_blur(padded)) if scale == 2 else _blur(padded))
    assert made.shape == (size[0] * scale, size[1] * scale, 3)
    apart = np.abs(made.astype(int) - whole[: made.shape[0], : made.shape[1]])
    assert apart.max() <= 1
    assert all(height <= side and width <= side for _, _, height, width in seen)
    # All tiles of a picture are of one size, for which a runtime plans its memory once.
    assert len(set(seen)) == 1


def test_what_lies_beyond_the_margin_shows_no_seam() -> None:
    """Each tile comes out a little brighter than the one before: the step is spread over the fade."""
    count = iter(range(100))

    def forward(tile: np.ndarray) -> np.ndarray:
        return np.full_like(tile, 0.2 + 0.1 * next(count))

    made = tiles.run_tiled(_picture(16, 200), forward, Tiling(64, 4, 16)).astype(int)
    assert made[0, 0, 0] == 51
    assert made[0, -1, 0] > 100
    assert np.abs(np.diff(made, axis=1)).max() <= 2


def test_without_enough_margin_tiles_differ() -> None:
    """The comparison above can fail."""
    pixels = _picture(40, 120)
    made = tiles.run_tiled(pixels, _blur, Tiling(32, 0, 1))
    whole = tiles.to_bytes(_blur(tiles.to_input(pixels)))
    assert np.abs(made.astype(int) - whole).max() > 5


@pytest.mark.parametrize(("length", "expected"), [(10, 1), (64, 1), (65, 2), (112, 2), (113, 3)])
def test_cuts_cover_a_side_with_tiles_of_one_length(length: int, expected: int) -> None:
    tiling = Tiling(64, 4, 8)
    spans = tiles.cut(length, tiling)
    assert len(spans) == expected
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert {end - start for start, end in spans} == {min(64, length)}
    shared = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
    assert all(one >= tiling.overlap for one in shared)


def test_tiles_are_as_large_as_memory_allows() -> None:
    def plan(budget: int, margin: int = 10, stride: int = 1) -> Tiling:
        return tiles.plan_tiles(margin=margin, stride=stride, scale=2, pixel_bytes=1000, budget=budget)

    assert plan(10_000_000).side == 100
    assert plan(10_000_000_000).side == 512
    assert plan(10_000_000, stride=8).side == 96
    assert plan(10_000_000, stride=8).margin == 16
    # Less would be nothing but overlap.
    assert plan(1000).side == 56


def test_small_pictures_are_mirrored_up_to_what_networks_need() -> None:
    pixels = _picture(1, 3)
    padded = tiles.pad_to(pixels, 4)
    assert padded.shape == (16, 16, 3)
    assert np.array_equal(padded[0, :6], pixels[0, [0, 1, 2, 2, 1, 0]])
    assert tiles.pad_to(_picture(20, 16), 4).shape == (20, 16, 3)
