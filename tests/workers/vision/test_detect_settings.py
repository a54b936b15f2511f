"""Parameters of detectors: a model has those that apply to its task."""

from __future__ import annotations

from typing import Any

import pytest

from workers import registry
from workers.plugin import Family

TASKS = ("detect", "segment", "pose", "obb", "classify")


def offered(key: str, **facts: Any) -> set[str]:
    family = registry.get(key)
    assert isinstance(family, Family)
    return set(family.settings_for(facts))


@pytest.mark.parametrize("key", ["yolo", "onnx"])
def test_each_task_has_settings_of_its_own(key: str) -> None:
    detector = offered(key, task="detect", layout="anchors")
    assert detector >= {"result", "confidence", "iou", "classes", "max_detections", "boxes", "labels"}
    assert not detector & {"masks", "keypoints", "top_k"}
    assert offered(key, task="obb", layout="anchors") == detector
    assert offered(key, task="segment", layout="anchors") == detector | {"masks"}
    assert offered(key, task="pose", layout="anchors") == detector | {"keypoints"}
    assert offered(key, task="classify", layout="logits") == {
        "result",
        "classes",
        "labels",
        "image_size",
        "top_k",
    }
    assert offered(key, task="detect", layout="end-to-end") == detector - {"iou"}


def test_what_makes_pictures_finds_nothing() -> None:
    assert offered("onnx", task="image", layout="") == {"image_size"}
    assert "iou" not in offered("onnx", task="segment", layout="semantic")


@pytest.mark.parametrize("key", ["yolo", "onnx"])
def test_each_setting_is_one_of_some_model(key: str) -> None:
    everything = set[str]().union(*(offered(key, task=task, layout="anchors") for task in TASKS))
    assert everything == registry.get(key).schema()["properties"].keys()


@pytest.mark.parametrize("key", ["yolo", "onnx"])
def test_a_classifier_blurs_and_cuts_out_nothing(key: str) -> None:
    family = registry.get(key)
    assert isinstance(family, Family)
    assert family.choices_for({"task": "classify"}) == {"result": ("draw", "data")}
    assert family.choices_for({"task": "detect"}) == {}
