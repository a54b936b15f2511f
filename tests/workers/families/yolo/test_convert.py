"""Converted models return what the forward pass of Ultralytics returns."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.families.yolo.checkpoints import SIDE, TINY, load_plainly, make_model, save
from workers import bundle
from workers.checkpoints.open import open_upload
from workers.export import compare, compare_rows, flatten, run_onnx
from workers.families.yolo import convert, ultralytics_models
from workers.families.yolo.checkpoint import find_checkpoint
from workers.inference.sessions import open_session

TASKS = {
    "yolo11n": ("detect", "YOLO11 detector", "anchors"),
    "yolo11n-seg": ("segment", "YOLO11 segmenter", "anchors"),
    "yolo11n-pose": ("pose", "YOLO11 pose estimator", "anchors"),
    "yolo11n-obb": ("obb", "YOLO11 oriented box detector", "anchors"),
    "yolo11n-cls": ("classify", "YOLO11 classifier", "probabilities"),
    "yolov10n": ("detect", "YOLOv10 detector", "end-to-end"),
    "yolo26n-seg": ("segment", "YOLO26 segmenter", "end-to-end"),
}
GENERATIONS = ("yolov5n", "yolov8n", "yolov9t", "yolo12n", "yolo26n-pose", "yolo26n-obb")


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")

    def made(name: str) -> Path:
        path = folder / f"{name}.pt"
        return path if path.exists() else save(make_model(name), path)

    return made


def _sample(height: int = SIDE, width: int = SIDE) -> Any:
    import torch

    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))


def _run_plainly(path: Path, *, is_end_to_end: bool, sample: Any = None) -> list[Any]:
    """Run the unpickled model as Ultralytics does for its exports."""
    import torch

    model = load_plainly(path)
    head = model.model[-1]
    head.end2end = is_end_to_end
    head.export = True
    with torch.inference_mode():
        return [output.numpy() for output in flatten(model(_sample() if sample is None else sample))]


def _candidates(path: Path, sample: Any) -> Any:
    import torch

    model = load_plainly(path)
    head = model.model[-1]
    head.end2end = head.export = True
    head.postprocess = lambda predictions: predictions
    with torch.inference_mode():
        return flatten(model(sample))[0].numpy()


@pytest.mark.parametrize("name", TASKS)
def test_every_task(name: str, checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    task, title, layout = TASKS[name]
    path = checkpoint_of(name)
    upload = open_upload(path)
    assert convert.recognize(upload) == title
    digest = bundle.write(convert.convert(upload), tmp_path)

    checked, facts = bundle.verify(tmp_path)
    assert checked == digest
    assert (facts.task, facts.layout, facts.classes) == (task, layout, ["cat", "dog"])
    assert (facts.input.width, facts.input.height, facts.input.channels) == (SIDE, SIDE, 3)
    assert facts.difference <= facts.tolerance == 1e-3
    assert facts.keypoints == ([17, 3] if task == "pose" else None)
    assert facts.flops > facts.parameters > 10**6

    model = bundle.FolderModel(tmp_path)
    assert (model.key, model.facts["title"]) == (digest, title)
    free = task != "classify"
    assert facts.rectangles == free
    assert open_session(model.read("model.onnx")).shape == (1, 3, *([None, None] if free else [SIDE, SIDE]))
    # One of these has fewer places than an end-to-end head chooses, the others more.
    for sides in [(SIDE, SIDE), (32, 96), (256, 160)] if free else [(SIDE, SIDE)]:
        sample = _sample(*sides)
        found = run_onnx(model.read("model.onnx"), sample.numpy())
        wanted = _run_plainly(path, is_end_to_end=layout == "end-to-end", sample=sample)
        assert len(found) == len(wanted) == (2 if task == "segment" else 1)
        if layout == "end-to-end":
            assert compare_rows(found[0], wanted[0], _candidates(path, sample)) < 1e-3
            found, wanted = found[1:], wanted[1:]
        assert all(compare(ours, theirs) < 1e-3 for ours, theirs in zip(found, wanted, strict=True))


def test_a_network_that_fits_its_square_alone_stays_one_of_that_size(tmp_path: Path) -> None:
    """Its head reads features of every eighth pixel, which are partly made of those of every sixty-fourth."""
    description = copy.deepcopy(TINY)
    description["backbone"] += [[-1, 1, "Conv", [128, 3, 2]], [-1, 1, "Conv", [128, 3, 2]]]
    description["head"] = [
        [-1, 1, "nn.Upsample", ["None", 8, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [[9], 1, "Detect", ["nc"]],
    ]
    path = save(make_model(description), tmp_path / "best.pt")
    out = tmp_path / "out"
    out.mkdir()
    bundle.write(convert.convert(open_upload(path)), out)
    _, facts = bundle.verify(out)
    assert (facts.rectangles, facts.stride, facts.input.width) == (False, 32, SIDE)
    model = bundle.FolderModel(out)
    assert open_session(model.read("model.onnx")).shape == (1, 3, SIDE, SIDE)
    found = run_onnx(model.read("model.onnx"), _sample().numpy())
    assert compare(found[0], _run_plainly(path, is_end_to_end=False)[0]) < 1e-3


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_generation_is_rebuilt(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    """Without the export, which is the same for all: what torch on a GPU would run."""
    import torch

    path = checkpoint_of(name)
    architecture, tensors = ultralytics_models.prepare(open_upload(path))
    model = convert.rebuild({"architecture": architecture}, tensors)
    with torch.inference_mode():
        found = [output.numpy() for output in flatten(model(_sample()))]
    wanted = _run_plainly(path, is_end_to_end=architecture["end2end"])
    if architecture["end2end"]:
        assert compare_rows(found[0], wanted[0], _candidates(path, _sample())) < 1e-3
    else:
        assert compare(found[0], wanted[0]) < 1e-4


def test_a_fused_checkpoint(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The checkpoint was saved after Ultralytics fused its layers: it has no batch normalization."""
    import torch

    model = load_plainly(checkpoint_of("yolo11n"))
    # As YOLO.fuse does, but for what pickle cannot write: functions bound to a layer.
    fused = copy.deepcopy(model).fuse(verbose=False)
    for module in fused.modules():
        module.__dict__.pop("forward", None)
    architecture, tensors = ultralytics_models.prepare(open_upload(save(fused, tmp_path / "fused.pt")))
    assert architecture["fused"]
    rebuilt = convert.rebuild({"architecture": architecture}, tensors)
    with torch.inference_mode():
        found = flatten(rebuilt(_sample()))[0].numpy()
    wanted = _run_plainly(checkpoint_of("yolo11n"), is_end_to_end=False)[0]
    # Its numbers were rounded to half precision after they had been folded.
    assert np.abs(found - wanted).max() < 0.5


def test_ema_comes_first(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_plainly(checkpoint_of("yolo11n"))
    averaged = copy.deepcopy(model)
    averaged.names = {0: "averaged", 1: 7}
    upload = open_upload(save(model, tmp_path / "last.pt", ema=averaged))
    checkpoint = find_checkpoint(upload)
    assert checkpoint is not None
    assert checkpoint.classes(2) == ["averaged", "7"]
    assert checkpoint.averaged == "ema"


def test_what_a_trainer_leaves_beside_the_model(tmp_path: Path) -> None:
    """Checkpoints from the middle of a training hold optimisers, metrics, paths and times."""
    import torch
    from ultralytics.utils import IterableSimpleNamespace

    model = make_model(TINY)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    model.eval()(_sample())
    path = save(
        model,
        tmp_path / "last.pt",
        optimizer=optimizer.state_dict(),
        train_metrics={"metrics/mAP50": np.float64(0.9), "losses": np.arange(3.0)},
        train_args=IterableSimpleNamespace(imgsz=[96, 160], save_dir=tmp_path),
        date=datetime.datetime.now(datetime.UTC),
        seen={1, 2},
        raw=b"\x00\xff",
        dtype=torch.float16,
        device=torch.device("cpu"),
    )
    upload = open_upload(path)
    checkpoint = find_checkpoint(upload)
    assert checkpoint is not None
    assert checkpoint.side(640, 32) == 160
    assert "optimizer.state.0.exp_avg" in upload.tensors
    architecture, tensors = ultralytics_models.prepare(upload)
    rebuilt = ultralytics_models.rebuild({"architecture": architecture}, tensors)
    with torch.inference_mode():
        found = flatten(rebuilt(_sample()))[0].numpy()
    assert compare(found, _run_plainly(path, is_end_to_end=False)[0]) < 1e-4
