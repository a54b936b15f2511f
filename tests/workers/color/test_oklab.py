"""OKLab against published values, k-means, and cells."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import draw, pixels
from workers.color.oklab import cluster, find_nearest, from_oklab, to_oklab
from workers.media.grid import average_cells, build_bayer, count_cells, paint_cells


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_oklab_of_known_colors(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert np.allclose(to_oklab(np.array(rgb, np.uint8)), lab, atol=1e-3)


def test_oklab_there_and_back() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (500, 3)).astype(np.uint8)
    assert np.abs(from_oklab(to_oklab(rgb)).astype(int) - rgb).max() <= 1


def test_clusters_find_well_parted_groups() -> None:
    rng = np.random.default_rng(2)
    true = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], np.float32)
    points = np.repeat(true, 100, axis=0) + rng.normal(0, 0.02, (400, 3)).astype(np.float32)
    found = cluster(points, 4)
    assert np.abs(found[find_nearest(true, found)] - true).max() < 0.02


def test_clusters_are_a_fixed_point_and_the_same_each_time() -> None:
    points = np.random.default_rng(3).random((1000, 3), dtype=np.float32)
    first = cluster(points, 7, rounds=200)
    assert np.array_equal(first, cluster(points, 7, rounds=200))
    nearest = find_nearest(points, first)
    means = np.array([points[nearest == index].mean(axis=0) for index in range(7)])
    assert np.abs(means - first).max() < 2e-3


@pytest.mark.parametrize("different", [1, 2, 3])
def test_no_more_clusters_than_different_points(different: int) -> None:
    points = np.repeat(np.eye(3, dtype=np.float32)[:different], 20, axis=0)
    assert len(cluster(points, 8)) == different


def test_nearest_agrees_with_all_distances() -> None:
    rng = np.random.default_rng(4)
    points, centers = rng.random((300, 3), dtype=np.float32), rng.random((9, 3), dtype=np.float32)
    expected = ((points[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(find_nearest(points, centers), expected)


@pytest.mark.parametrize(
    ("size", "cell", "count"),
    [((100, 70), 10, (10, 7)), ((101, 70), 10, (11, 7)), ((3, 3), 10, (1, 1)), ((1024, 768), 25.6, (40, 30))],
)
def test_cells_cover_the_picture(size: tuple[int, int], cell: float, count: tuple[int, int]) -> None:
    assert count_cells(size, cell) == count


@pytest.mark.parametrize("cell", [5, 2.5, 6.4])
def test_cells_are_averaged_and_painted_in_place(cell: float) -> None:
    image = draw(64, 48)
    cells = average_cells(image, (64, 48), cell)
    painted = paint_cells(cells, (64, 48), cell)
    assert painted.size == (64, 48)
    assert np.abs(pixels(painted) - pixels(image)).mean() < 4 * cell


def test_a_reduced_view_gives_the_same_means() -> None:
    image = draw(64, 48)
    whole = pixels(average_cells(image, (64, 48), 8))
    assert np.abs(pixels(average_cells(image.reduce(4), (64, 48), 8, 4)) - whole).max() <= 1
    assert whole.shape == (6, 8, 3)


def test_bayer_holds_each_threshold_once() -> None:
    assert sorted((build_bayer(4) * 16 - 0.5).ravel().tolist()) == list(range(16))
    assert np.allclose(build_bayer(2) * 4 - 0.5, [[0, 2], [3, 1]])


def test_one_cell_of_a_tiny_picture() -> None:
    assert average_cells(Image.new("RGB", (1, 1), (9, 8, 7)), (1, 1), 2.5).getpixel((0, 0)) == (9, 8, 7)
