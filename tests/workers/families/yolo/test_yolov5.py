"""Checkpoints of the YOLOv5 repository."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.workers.families.yolo.checkpoints import quiet
from workers import bundle
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.export import compare, run_onnx
from workers.families.yolo import convert

quiet()


@pytest.fixture(scope="module")
def model() -> Any:
    from tests.workers.families.yolo.yolov5_repository import make_model

    return make_model()


def _save(model: Any, path: Path) -> Path:
    from tests.workers.families.yolo.yolov5_repository import save

    return save(model, path)


def test_it_gives_what_the_repository_gives(model: Any, tmp_path: Path) -> None:
    import torch

    upload = open_upload(_save(model, tmp_path / "best.pt"))
    assert convert.recognize(upload) == "YOLOv5 detector"
    out = tmp_path / "out"
    out.mkdir()
    bundle.write(convert.convert(upload), out)
    _, facts = bundle.verify(out)
    assert (facts.layout, facts.task, facts.classes, facts.stride) == ("yolov5", "detect", ["cat", "dog"], 32)
    assert (facts.input.width, facts.input.height, facts.rectangles) == (64, 64, True)

    for height, width in ((64, 64), (96, 32)):
        sample = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            wanted = model(sample).numpy()
        found = run_onnx((out / "model.onnx").read_bytes(), sample.numpy())
        assert found[0].shape == (1, 3 * (height * width // 64 + height * width // 256), 7)
        assert compare(found[0], wanted) < 1e-4


def test_an_older_activation_is_refused(model: Any, tmp_path: Path) -> None:
    import torch

    older = copy.deepcopy(model)
    older.model[0].act = torch.nn.Hardswish()
    with pytest.raises(Refused, match="activation"):
        convert.convert(open_upload(_save(older, tmp_path / "old.pt")))


def test_other_layers_are_refused(model: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    other.yaml = copy.deepcopy(model.yaml)
    other.yaml["backbone"][2][2] = "C3TR"
    with pytest.raises(Refused, match="C3TR"):
        convert.convert(open_upload(_save(other, tmp_path / "other.pt")))


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_segmenter_is_told_what_is_run(model: Any, tmp_path: Path, protocol: int) -> None:
    """Its head keeps a method of the detectors' one, which is saved as a call of getattr."""
    from tests.workers.families.yolo.yolov5_repository import as_segmenter, save

    path = save(as_segmenter(model), tmp_path / "seg.pt", pickle_protocol=protocol)
    assert b"getattr" in path.read_bytes()
    with pytest.raises(Refused, match="Only detectors of the older"):
        convert.convert(open_upload(path))


def test_a_head_without_anchors_is_refused(model: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    del other.model[-1].anchors
    with pytest.raises(Refused, match="anchors"):
        convert.convert(open_upload(_save(other, tmp_path / "other.pt")))
