"""Trials of converted models in a sandbox process, and verification of what the process leaves."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.families import samples as graphs
from tests.workers.families.models import facts_of, fixed
from tests.workers.inference import bombs
from tests.workers.sandbox.test_run import WALLS
from workers.bundle import FACTS, GRAPH, WEIGHTS
from workers.sandbox import process
from workers.thumbnail_sizes import SAMPLE_SIDE
from workers.trials import launch, samples
from workers.trials.entry_point import REPORT
from workers.trials.launch import BOUNDS, Trial, try_model

DETECTOR = Path(__file__).resolve().parents[3] / "deploy" / "demo_models" / "shapes-detector" / "model"


@pytest.mark.parametrize("wrap", WALLS)
def test_a_detector_is_measured_and_shown(wrap: bool) -> None:
    done = try_model(DETECTOR, use_bubblewrap=wrap)
    assert done.sentence == ""
    assert done.first_ms is not None
    assert done.each_ms is not None
    assert 0 < done.each_ms < done.first_ms
    assert done.runs >= 3
    assert (done.width, done.height) == (450, 300)
    assert [shown.caption for shown in done.shown] == [image.caption for image in samples.IMAGES]
    # The image of `make train-demo` has two triangles, a circle and a square.
    assert {(one.name, one.count) for one in done.shown[2].seen} == {
        ("triangle", 2),
        ("circle", 1),
        ("square", 1),
    }
    for shown in done.shown:
        assert shown.before is not None
        assert shown.after is not None
        assert (shown.before.width, shown.before.height) == (shown.after.width, shown.after.height)
        assert shown.before.data != shown.after.data


def test_a_timeout_returns_an_incomplete_trial() -> None:
    done = try_model(DETECTOR, limits=process.Limits(wall=0.2), use_bubblewrap=False)
    assert done == Trial(
        "The trial was stopped: a few small images take longer than a minute.", width=450, height=300
    )


def test_a_crash_of_the_graph_is_reported(tmp_path: Path) -> None:
    """The facts match the files, but the graph's outputs do not match the facts."""
    graph = fixed(facts_of("detect", graphs.NAMES), graphs.anchors())
    (tmp_path / GRAPH).write_bytes(graph.read(GRAPH))
    facts = json.loads((DETECTOR / FACTS).read_text())
    (tmp_path / FACTS).write_text(json.dumps({**facts, "layout": "end-to-end"}))
    shutil.copy(DETECTOR / WEIGHTS, tmp_path)
    done = try_model(tmp_path, use_bubblewrap=False)
    assert done.sentence == "The model crashes when it runs on an image."
    assert (done.first_ms, done.shown) == (None, ())


def _write_model(graph: bytes, facts: dict[str, Any], folder: Path) -> Path:
    """Return a folder with this graph and these facts. Its other content is from another model."""
    folder.mkdir()
    (folder / GRAPH).write_bytes(graph)
    known = json.loads((DETECTOR / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**known, "family": "onnx", **facts}))
    shutil.copy(DETECTOR / WEIGHTS, folder)
    return folder


def test_outputs_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    facts = facts_of("classify", graphs.NAMES, layout="logits")
    graph = fixed(facts, np.full((1, 3), np.nan)).read(GRAPH)
    done = try_model(_write_model(graph, facts, tmp_path / "model"), use_bubblewrap=False)
    assert done.sentence.startswith("The model’s output for this image is not finite: it contains NaN or")


def test_a_network_above_the_memory_limit_is_reported(tmp_path: Path) -> None:
    """The error is not that the image is too large."""
    facts = facts_of("image", (), bombs.SIDE, layout="picture", scale=1)
    facts["architecture"] = {"takes": "unit", "gives": "unit"}
    folder = _write_model(bombs.memory_hog(always=True), facts, tmp_path / "model")
    done = try_model(folder, limits=replace(BOUNDS, memory=3 * 1024**3), use_bubblewrap=False)
    assert done.sentence == (
        "The model needs more memory for this image than the 3 GiB that a model may use. Use a smaller "
        "image, or lower the image size."
    )


def test_expensive_generators_get_smaller_images() -> None:
    facts = {"flops": 10**13, "architecture": {"flops_side": 1024}}
    with Image.open(io.BytesIO(samples.images_for(facts)[0])) as small:
        cost = 10**13 / 1024**2 * small.width * small.height
        assert samples.MOST_FLOPS / 2 < cost <= 1.01 * samples.MOST_FLOPS
    whole = samples.images_for({"flops": 10**10, "architecture": {"flops_side": 1024}})
    assert whole == samples.images_for({})
    assert len(samples.images_for({"layout": "noise"})) == 1


# --- Files that a compromised process could leave.


def _report(**changes: Any) -> dict[str, Any]:
    sample = {"picture": 0, "file": "0.webp", "seen": [{"name": "cat", "count": 1}]}
    return {"sentence": "", "times": [100.0, 50.0], "samples": [sample], **changes}


def _image(format: str = "WEBP", side: int = 64) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(target, format)
    return target.getvalue()


def _leave(monkeypatch: pytest.MonkeyPatch, report: Any, image: bytes | None = None) -> Trial:
    """Return the trial of a process that leaves this report and image."""

    def run(program: str, order: object, *, out: Path, **_: Any) -> process.ProcessEnd:
        (out / REPORT).write_text(report if isinstance(report, str) else json.dumps(report))
        if image is not None:
            (out / "0.webp").write_bytes(image)
        return process.ProcessEnd(0, {})

    monkeypatch.setattr(process, "run", run)
    return try_model(DETECTOR)


def test_a_valid_report_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _leave(monkeypatch, _report(), _image())
    assert (done.first_ms, done.each_ms, done.runs) == (100.0, 50.0, 2)
    (shown,) = done.shown
    assert shown.after is not None
    # Re-encoded from its pixels.
    assert shown.after.data != _image()
    assert (shown.after.width, shown.seen[0].name) == (64, "cat")


@pytest.mark.parametrize(
    "report",
    [
        "[" * 100_000,
        "{}",
        json.dumps(_report(times=[float("inf")])),
        json.dumps(_report(more=1)),
        json.dumps(_report(samples=[{"picture": 0, "file": "../../etc/passwd", "seen": []}])),
        json.dumps(_report(samples=[{"picture": 9, "file": "", "seen": []}])),
        json.dumps(_report(samples=[{"picture": 0, "file": "", "seen": [{"name": "a", "count": -1}]}])),
        json.dumps(_report(sentence="x" * 501)),
    ],
)
def test_an_invalid_report_is_ignored(report: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _leave(monkeypatch, report, _image())
    assert (done.first_ms, done.shown) == (None, ())


@pytest.mark.parametrize(
    "image", [b"<svg onload=alert(1)>", _image("PNG"), _image(side=SAMPLE_SIDE + 1), b"", None]
)
def test_an_invalid_image_is_not_shown(image: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = _leave(monkeypatch, _report(), image).shown
    assert shown.after is None
    assert shown.before is not None


def test_a_link_is_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.webp").write_bytes(_image())
    os.symlink(tmp_path / "other.webp", tmp_path / "0.webp")
    assert launch._read_image(tmp_path / "0.webp") is None
