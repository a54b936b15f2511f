"""Letterbox, decoding of outputs, and NMS, compared with Ultralytics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.workers.media.samples import draw, encode
from workers.inference.errors import ModelFault
from workers.media.picture import Picture
from workers.vision.detection_outputs import DetectorOutputSpec, find_layout, read
from workers.vision.letterbox import Letterbox, fill_cropped, fill_stretched
from workers.vision.nms import probiou, suppress, suppress_rotated

SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


# --- Letterbox.


@settings(max_examples=200, deadline=None)
@given(picture=SIZES, into=st.sampled_from([(640, 640), (64, 64), (640, 384), (96, 160)]))
def test_a_picture_lies_where_ultralytics_lays_it(picture: tuple[int, int], into: tuple[int, int]) -> None:
    from ultralytics.data.augment import LetterBox

    place = Letterbox.fit(picture, into)
    shown = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (picture[1], picture[0], 3), (0, 0, 1))
    told = LetterBox(new_shape=into[::-1], auto=False).get_params({"img": shown})
    assert (place.inner, place.left, place.top) == (told["new_unpad"], told["left"], told["top"])


@settings(max_examples=200, deadline=None)
@given(picture=SIZES, side=st.sampled_from([64, 320, 640]), stride=st.sampled_from([32, 64]))
def test_a_rectangle_is_as_small_as_ultralytics_makes_it(
    picture: tuple[int, int], side: int, stride: int
) -> None:
    from ultralytics.data.augment import LetterBox

    place = Letterbox.fit(picture, (side, side), stride)
    shown = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (picture[1], picture[0], 3), (0, 0, 1))
    told = LetterBox((side, side), auto=True, stride=stride).get_params({"img": shown})
    assert (place.inner, place.left, place.top) == (told["new_unpad"], told["left"], told["top"])
    around = told["left"] + told["right"], told["top"] + told["bottom"]
    assert place.input == (place.inner[0] + around[0], place.inner[1] + around[1])
    assert max(place.input) == side
    assert not any(length % stride for length in place.input)


@settings(max_examples=100, deadline=None)
@given(picture=SIZES, seed=st.integers(0, 9), stride=st.sampled_from([None, 32]))
def test_boxes_come_back_as_ultralytics_brings_them(
    picture: tuple[int, int], seed: int, stride: int | None
) -> None:
    import torch
    from ultralytics.utils.ops import scale_boxes

    boxes = np.random.default_rng(seed).uniform(-40, 700, (20, 4)).astype(np.float32)
    place = Letterbox.fit(picture, (640, 640), stride)
    # It works the gain out again, which misleads it where a side was rounded down to the stride.
    gain = min(outer / side for outer, side in zip(place.input, picture, strict=True))
    assume(place.inner == tuple(max(1, round(side * gain)) for side in picture))
    theirs = scale_boxes(place.input[::-1], torch.from_numpy(boxes.copy()), picture[::-1]).numpy()
    assert np.allclose(place.boxes_to_picture(boxes), theirs, rtol=1e-5, atol=1e-3)


def test_boxes_come_back_to_the_edges_of_a_picture_that_was_rounded_down() -> None:
    place = Letterbox.fit((103, 147), (640, 640), 32)
    assert place.inner == place.input == (448, 640)
    whole = np.asarray([[0, 0, 448, 640]], np.float32)
    assert np.allclose(place.boxes_to_picture(whole), [[0, 0, 103, 147]], atol=1e-4)


@pytest.mark.parametrize("size", [(300, 200), (100, 260), (64, 64), (31, 7), (1, 1)])
def test_the_input_holds_the_picture_and_gray(size: tuple[int, int]) -> None:
    import cv2

    picture = Picture.open(encode(draw(*size), "PNG"))
    place = Letterbox.fit(size, (64, 64))
    pixels = place.fill(picture)
    assert pixels.shape == (1, 3, 64, 64)
    assert pixels.dtype == np.float32
    inside = np.zeros((64, 64), bool)
    inside[place.top : place.top + place.inner[1], place.left : place.left + place.inner[0]] = True
    assert np.allclose(pixels[0][:, ~inside], 114 / 255)
    got = pixels[0][:, inside].reshape(3, place.inner[1], place.inner[0]).transpose(1, 2, 0)
    theirs = cv2.resize(np.asarray(draw(*size)), place.inner, interpolation=cv2.INTER_LINEAR) / 255
    assert np.abs(got - theirs).max() < 1e-6


@pytest.mark.parametrize(("crop", "before"), [(1, 64), (0.875, 73), (64 / 72, 72), (0.5, 128)])
@pytest.mark.parametrize("size", [(300, 200), (100, 260), (64, 64), (31, 70)])
def test_classifiers_see_the_middle_square(size: tuple[int, int], crop: float, before: int) -> None:
    """Resize and CenterCrop of torchvision, written out."""
    image = draw(*size)
    short = min(size)
    sides = int(before * size[0] / short), int(before * size[1] / short)
    scaled = image.resize(sides, Image.Resampling.BILINEAR)
    left, top = round((scaled.width - 64) / 2), round((scaled.height - 64) / 2)
    theirs = np.asarray(scaled.crop((left, top, left + 64, top + 64))) / 255
    got = fill_cropped(Picture.open(encode(image, "PNG")), 64, crop=crop)[0].transpose(1, 2, 0)
    assert got.shape == (64, 64, 3)
    assert np.abs(got - theirs).max() <= 0.009
    assert np.abs(got - theirs).mean() < 0.01


@pytest.mark.parametrize("size", [(300, 200), (100, 260), (64, 64), (31, 70)])
@pytest.mark.parametrize("channels", [1, 3])
def test_classifiers_may_see_the_whole_picture_squeezed(size: tuple[int, int], channels: int) -> None:
    image = draw(*size)
    theirs = image.convert("L" if channels == 1 else "RGB").resize((64, 64), Image.Resampling.BILINEAR)
    got = fill_stretched(Picture.open(encode(image, "PNG")), 64, channels)[0].transpose(1, 2, 0)
    assert got.shape == (64, 64, channels)
    assert np.abs(got - np.asarray(theirs).reshape(64, 64, channels) / 255).mean() < 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
@pytest.mark.parametrize("crop", [0.01, 1])
def test_the_least_part_of_the_least_picture_can_be_seen(size: tuple[int, int], crop: float) -> None:
    picture = Picture.open(encode(Image.new("RGB", size, (51, 102, 153)), "PNG"))
    got = fill_cropped(picture, 224, crop=crop)
    assert np.abs(got - np.reshape([0.2, 0.4, 0.6], (1, 3, 1, 1))).max() < 0.003


# --- Suppression.


def _boxes(seed: int, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, spread, (count, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 60, (count, 2))]).astype(np.float32)
    return boxes, rng.permutation(count).astype(np.float32) / max(1, count)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), count=st.integers(0, 80), spread=st.sampled_from([5, 60, 400]),
    iou=st.sampled_from([0.1, 0.45, 0.7, 0.95]), most=st.sampled_from([1, 7, 300]),
)  # fmt: skip
def test_the_same_boxes_stay(seed: int, count: int, spread: float, iou: float, most: int) -> None:
    import torch
    from ultralytics.utils.nms import TorchNMS

    boxes, scores = _boxes(seed, count, spread)
    theirs = TorchNMS.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou)[:most]
    assert suppress(boxes, scores, iou, most).tolist() == theirs.tolist()


def _turned(seed: int, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = [
        rng.uniform(0, spread, (count, 2)),
        rng.uniform(2, 60, (count, 2)),
        rng.uniform(-3, 3, (count, 1)),
    ]
    return np.hstack(columns).astype(np.float32), rng.permutation(count).astype(np.float32) / max(1, count)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 600), spread=st.sampled_from([20, 300, 2000]))
def test_the_same_turned_boxes_stay(seed: int, count: int, spread: float) -> None:
    import torch
    from ultralytics.utils.metrics import batch_probiou
    from ultralytics.utils.nms import TorchNMS

    boxes, scores = _turned(seed, count, spread)
    inputs = torch.from_numpy(boxes), torch.from_numpy(scores)
    theirs = TorchNMS.fast_nms(*inputs, 0.5, iou_func=batch_probiou)
    assert suppress_rotated(boxes, scores, 0.5, 1000).tolist() == theirs.tolist()
    assert suppress_rotated(boxes, scores, 0.5, 3).tolist() == theirs.tolist()[:3]
    if count:
        assert np.allclose(probiou(boxes, boxes), batch_probiou(inputs[0], inputs[0]), atol=2e-3)


# --- Layouts.


def _anchors(seed: int, classes: int, more: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    boxes = np.vstack([rng.uniform(0, 300, (2, count)), rng.uniform(4, 90, (2, count))])
    scores = rng.uniform(0, 1, (classes, count)) ** 3
    return np.vstack([boxes, scores, rng.normal(0, 1, (more, count))])[None].astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("classes", "more", "rotated"), [(1, 0, False), (5, 0, False), (80, 32, False), (3, 1, True)]
)
def test_the_same_things_are_found(seed: int, classes: int, more: int, rotated: bool) -> None:
    import torch
    from ultralytics.utils.nms import non_max_suppression

    output = _anchors(seed, classes, more)
    wanted = None if seed % 2 else [0, 2]
    settings: dict[str, Any] = {"classes": wanted, "max_det": 50, "nc": classes, "rotated": rotated}
    theirs = non_max_suppression(torch.from_numpy(output.copy()), 0.25, 0.7, **settings)[0].numpy()
    found = read(
        output,
        DetectorOutputSpec(classes, more, rotated=rotated),
        confidence=0.25,
        iou=0.7,
        most=50,
        wanted=wanted,
    )
    assert len(theirs) > 3
    ours = np.hstack([found.boxes, found.scores[:, None], found.classes[:, None], found.more])
    assert np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_end_to_end_heads_are_only_filtered(seed: int) -> None:
    import torch
    from ultralytics.utils.nms import non_max_suppression

    rng = np.random.default_rng(seed)
    scores = np.sort(rng.uniform(0, 1, (300, 1)), axis=0)[::-1]
    rows = np.hstack([rng.uniform(0, 64, (300, 4)), scores, rng.integers(0, 3, (300, 1))]).astype(np.float32)
    theirs = non_max_suppression(torch.from_numpy(rows[None].copy()), 0.4, 0.7, classes=[1, 2], max_det=40)[0]
    found = read(
        rows[None], DetectorOutputSpec(3, 0, "end-to-end"), confidence=0.4, iou=0.7, most=40, wanted={1, 2}
    )
    ours = np.hstack([found.boxes, found.scores[:, None], found.classes[:, None]])
    assert np.array_equal(ours, theirs.numpy())


def test_the_older_layout_multiplies_its_confidences() -> None:
    rows = np.array(
        [
            [30, 30, 20, 10, 0.9, 0.5, 0.8],
            [30, 30, 20, 10, 0.8, 0.4, 0.9],
            [90, 30, 20, 10, 0.3, 0.9, 0.1],
            [90, 90, 20, 10, 0.2, 1.0, 0.1],
        ],
        np.float32,
    )
    found = read(rows[None], DetectorOutputSpec(2, 0, "yolov5"), confidence=0.25, iou=0.7, most=300)
    assert found.classes.tolist() == [1, 0]
    assert np.allclose(found.scores, [0.72, 0.27])
    assert np.allclose(found.boxes, [[20, 25, 40, 35], [80, 25, 100, 35]])


def test_a_place_that_is_none_is_a_fault_where_it_is_read() -> None:
    output = _anchors(0, 2, 1)
    output[0, 4:6, ::2] = 0
    output[0, :4, ::4], output[0, -1, 2::4] = np.nan, -np.inf
    found = read(output, DetectorOutputSpec(2, 1), confidence=0.01, iou=0.95, most=1000)
    assert 0 < len(found) <= 100
    output[0, 4, 0] = 0.5
    with pytest.raises(ModelFault, match="not finite"):
        read(output, DetectorOutputSpec(2, 1), confidence=0.01, iou=0.95, most=1000)
    assert len(read(output, DetectorOutputSpec(2, 1), confidence=0.9, iou=0.95, most=1000)) <= len(found)


@pytest.mark.parametrize(
    ("shape", "classes", "more", "layout"),
    [
        ((1, 84, 8400), 80, 0, "anchors"),
        ((1, 116, 8400), 80, 32, "anchors"),
        ((1, 25200, 85), 80, 0, "yolov5"),
        ((1, 300, 6), 80, 0, "end-to-end"),
        ((1, 300, 38), 2, 32, "end-to-end"),
        ((1, 7, 84), 2, 0, None),
        ((1, 1000), 1000, 0, None),
    ],
)
def test_the_layout_shows_in_the_shape(
    shape: tuple[int, ...], classes: int, more: int, layout: str | None
) -> None:
    assert find_layout(shape, classes, more) == layout
