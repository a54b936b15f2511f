"""The training of the demo's model: what it learns from, what it is measured by, and that it runs."""

from pathlib import Path

import numpy as np
import pytest

from deploy.train_demo import pictures
from deploy.train_demo.pictures import CLASSES, Shape
from deploy.train_demo.precision import intersection_over_union, mean_average_precision


def shape(class_id: int, left: float, top: float, right: float, bottom: float) -> Shape:
    return Shape(class_id, ((left, top), (right, top), (right, bottom), (left, bottom)))


def test_pictures_are_the_same_for_a_seed_and_shapes_lie_where_they_are_said_to() -> None:
    picture, shapes = pictures.draw(3, 96)
    again, _ = pictures.draw(3, 96)
    assert np.array_equal(np.asarray(picture), np.asarray(again))
    assert picture.size == (96, 96)
    for each in shapes:
        left, top, right, bottom = each.box
        assert -0.01 <= left < right <= 1.01
        assert -0.01 <= top < bottom <= 1.01


def test_precision_is_one_for_what_is_right_and_falls_with_what_is_not() -> None:
    truth = [[shape(0, 0.1, 0.1, 0.4, 0.4), shape(1, 0.5, 0.5, 0.9, 0.9)], [shape(0, 0, 0, 0.5, 0.5)]]
    right = [[(0.9, each.class_id, each.box) for each in shapes] for shapes in truth]
    assert mean_average_precision(right, truth) == pytest.approx(1)
    # A surer answer where nothing is: every right one of its class comes after it.
    wrong = [[*right[0], (0.95, 0, (0.6, 0.0, 0.9, 0.3))], right[1]]
    assert mean_average_precision(wrong, truth) == pytest.approx((2 / 3 + 1) / 2)
    # The same shape found twice counts once.
    twice = [[*right[0], (0.95, 1, truth[0][1].box)], right[1]]
    assert mean_average_precision(twice, truth) == pytest.approx(1)
    assert mean_average_precision([[], []], truth) == 0


def test_boxes_overlap_by_what_they_share() -> None:
    assert intersection_over_union((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_a_few_steps_change_the_weights_and_leave_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not with the others: every run of the tests would load torch.
    from deploy.train_demo import detector

    monkeypatch.setattr(detector, "SIDE", 64)
    monkeypatch.setattr(detector, "BATCH", 2)
    trained = detector.train(2)
    fresh = detector.build()
    assert any((a != b).any() for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))
    assert trained.names == dict(enumerate(CLASSES))
    detector.save(trained, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size > 500_000
