"""A converted model is tried in a process that can do nothing else; what that leaves is not believed."""

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
    assert [shown.caption for shown in done.shown] == [picture.caption for picture in samples.PICTURES]
    # What `make train-demo` drew: two triangles, a circle and a square.
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


def test_time_that_is_up_leaves_what_there_is() -> None:
    done = try_model(DETECTOR, limits=process.Limits(wall=0.2), use_bubblewrap=False)
    assert done == Trial(
        "It was stopped: even a few small pictures take longer than a minute.", width=450, height=300
    )


def test_a_graph_that_breaks_down_costs_the_trial_alone(tmp_path: Path) -> None:
    """The facts fit the files, but the graph does not do what they say."""
    graph = fixed(facts_of("detect", graphs.NAMES), graphs.anchors())
    (tmp_path / GRAPH).write_bytes(graph.read(GRAPH))
    facts = json.loads((DETECTOR / FACTS).read_text())
    (tmp_path / FACTS).write_text(json.dumps({**facts, "layout": "end-to-end"}))
    shutil.copy(DETECTOR / WEIGHTS, tmp_path)
    done = try_model(tmp_path, use_bubblewrap=False)
    assert done.sentence == "It breaks down when it is run over a picture."
    assert (done.first_ms, done.shown) == (None, ())


def _made_of(graph: bytes, facts: dict[str, Any], folder: Path) -> Path:
    """A converted model with this graph, of which nothing more than the trial needs is true."""
    folder.mkdir()
    (folder / GRAPH).write_bytes(graph)
    known = json.loads((DETECTOR / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**known, "family": "onnx", **facts}))
    shutil.copy(DETECTOR / WEIGHTS, folder)
    return folder


def test_a_network_without_finite_numbers_says_so(tmp_path: Path) -> None:
    facts = facts_of("classify", graphs.NAMES, layout="logits")
    graph = fixed(facts, np.full((1, 3), np.nan)).read(GRAPH)
    done = try_model(_made_of(graph, facts, tmp_path / "model"), use_bubblewrap=False)
    assert done.sentence.startswith("The model’s numbers are not finite: it gives NaN or infinity")


def test_a_network_that_needs_too_much_memory_says_so(tmp_path: Path) -> None:
    """Not that the picture is too large, which it is not."""
    facts = facts_of("image", (), bombs.SIDE, layout="picture", scale=1)
    facts["architecture"] = {"takes": "unit", "gives": "unit"}
    folder = _made_of(bombs.memory_hog(always=True), facts, tmp_path / "model")
    done = try_model(folder, limits=replace(BOUNDS, memory=3 * 1024**3), use_bubblewrap=False)
    assert done.sentence == (
        "The model needs more memory for this picture than the 3 GiB that a model may have. Use a smaller "
        "picture or image size."
    )


def test_heavy_generators_are_shown_less() -> None:
    facts = {"flops": 10**13, "architecture": {"flops_side": 1024}}
    with Image.open(io.BytesIO(samples.pictures_for(facts)[0])) as small:
        cost = 10**13 / 1024**2 * small.width * small.height
        assert samples.MOST_FLOPS / 2 < cost <= 1.01 * samples.MOST_FLOPS
    whole = samples.pictures_for({"flops": 10**10, "architecture": {"flops_side": 1024}})
    assert whole == samples.pictures_for({})
    assert len(samples.pictures_for({"layout": "noise"})) == 1


# --- What it could leave behind, had somebody taken it over.


def _said(**changes: Any) -> dict[str, Any]:
    kept = {"picture": 0, "file": "0.webp", "seen": [{"name": "cat", "count": 1}]}
    return {"sentence": "", "times": [100.0, 50.0], "samples": [kept], **changes}


def _picture(format: str = "WEBP", side: int = 64) -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(drawn, format)
    return drawn.getvalue()


def _leave(monkeypatch: pytest.MonkeyPatch, said: Any, picture: bytes | None = None) -> Trial:
    """Have the process leave this, and return what is made of it."""

    def run(program: str, order: object, *, out: Path, **_: Any) -> process.Ended:
        (out / REPORT).write_text(said if isinstance(said, str) else json.dumps(said))
        if picture is not None:
            (out / "0.webp").write_bytes(picture)
        return process.Ended(0, {})

    monkeypatch.setattr(process, "run", run)
    return try_model(DETECTOR)


def test_what_is_right_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _leave(monkeypatch, _said(), _picture())
    assert (done.first_ms, done.each_ms, done.runs) == (100.0, 50.0, 2)
    (shown,) = done.shown
    assert shown.after is not None
    # Drawn anew, never the bytes that were left.
    assert shown.after.data != _picture()
    assert (shown.after.width, shown.seen[0].name) == (64, "cat")


@pytest.mark.parametrize(
    "said",
    [
        "[" * 100_000,
        "{}",
        json.dumps(_said(times=[float("inf")])),
        json.dumps(_said(more=1)),
        json.dumps(_said(samples=[{"picture": 0, "file": "../../etc/passwd", "seen": []}])),
        json.dumps(_said(samples=[{"picture": 9, "file": "", "seen": []}])),
        json.dumps(_said(samples=[{"picture": 0, "file": "", "seen": [{"name": "a", "count": -1}]}])),
        json.dumps(_said(sentence="x" * 501)),
    ],
)
def test_a_report_that_lies_is_none(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _leave(monkeypatch, said, _picture())
    assert (done.first_ms, done.shown) == (None, ())


@pytest.mark.parametrize(
    "picture", [b"<svg onload=alert(1)>", _picture("PNG"), _picture(side=SAMPLE_SIDE + 1), b"", None]
)
def test_a_picture_that_is_none_is_not_shown(picture: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = _leave(monkeypatch, _said(), picture).shown
    assert shown.after is None
    assert shown.before is not None


def test_a_link_is_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.webp").write_bytes(_picture())
    os.symlink(tmp_path / "other.webp", tmp_path / "0.webp")
    assert launch._read_picture(tmp_path / "0.webp") is None
