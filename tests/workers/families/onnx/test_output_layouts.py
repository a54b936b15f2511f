"""Output plans of ONNX graphs: the possible ones, and whether one is certain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.workers.families import samples
from tests.workers.families.models import facts_of, fixed
from workers.configs.model_config import Wishes
from workers.families.onnx.output_layouts import list_choices, plan_outputs
from workers.sandbox import process
from workers.sandbox import run as sandbox
from workers.sandbox.entry_point import REPORT

Shapes = list[tuple[int, ...]]

# Output shapes for pictures of 640 x 640, what is said of the model, and the ways: task, layout, classes.
WAYS: dict[str, tuple[Shapes, dict[str, Any], list[tuple[str, str, int]]]] = {
    "columns": ([(1, 84, 8400)], {}, [("detect", "anchors", 80), ("obb", "anchors", 79)]),
    "columns_named": (
        [(1, 84, 8400)],
        {"names": tuple(str(number) for number in range(80))},
        [("detect", "anchors", 80)],
    ),
    "rows": ([(1, 25200, 85)], {}, [("detect", "yolov5", 80), ("obb", "yolov5", 79)]),
    "six_columns": ([(1, 300, 6)], {}, [("detect", "end-to-end", 0), ("detect", "yolov5", 1)]),
    "prototypes": ([(1, 116, 8400), (1, 32, 160, 160)], {}, [("segment", "anchors", 80)]),
    "keypoints": (
        [(1, 56, 8400)],
        {"task": "pose", "keypoints": (17, 3), "names": ("person",)},
        [("pose", "anchors", 1)],
    ),
    "scores": ([(1, 1000)], {}, [("classify", "", 1000)]),
    "picture": ([(1, 3, 640, 640)], {}, [("image", "picture", 0), ("segment", "semantic", 3)]),
    "pixels": ([(1, 21, 640, 640)], {}, [("segment", "semantic", 21)]),
}


@pytest.mark.parametrize("name", sorted(WAYS))
def test_the_ways_that_fit(name: str) -> None:
    shapes, said, expected = WAYS[name]
    wishes = Wishes(**said)
    chosen = plan_outputs(shapes, (640, 640), wishes)
    found = list_choices(shapes, (640, 640), wishes, chosen)
    assert [(one.task, one.layout, one.classes) for one in found] == expected


def test_a_choice_written_into_the_config_is_how_it_is_read() -> None:
    shapes: Shapes = [(1, 84, 8400)]
    wishes = Wishes(task="obb", layout="anchors")
    chosen = plan_outputs(shapes, (640, 640), wishes)
    assert (chosen.task, chosen.classes) == ("obb", 79)
    # The other way is still offered.
    ways = list_choices(shapes, (640, 640), wishes, chosen)
    assert [one.task for one in ways] == ["obb", "detect"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "finder.onnx"
    path.write_bytes(fixed(facts_of("detect", samples.NAMES), samples.anchors()).read("model.onnx"))
    return path


@pytest.mark.parametrize("is_named", [True, False])
def test_the_sandbox_reports_them(is_named: bool, graph: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"names": list(samples.NAMES)} if is_named else {}))
    report = sandbox.convert(graph, tmp_path / "out", config=config, use_bubblewrap=False)
    assert report.ok, report
    chosen = {"task": "detect", "layout": "anchors", "classes": len(samples.NAMES), "is_recognised": True}
    assert report.choices[0] == chosen
    assert report.is_certain is is_named
    assert (len(report.choices) == 1) is is_named


@pytest.mark.parametrize("said", [{}, {"task": "obb", "layout": "anchors"}])
def test_what_was_recognised_stays_so_whatever_is_chosen(
    said: dict[str, str], graph: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(said))
    report = sandbox.convert(graph, tmp_path / "out", config=config, use_bubblewrap=False)
    assert report.choices[0]["task"] == said.get("task", "detect")
    assert [one["task"] for one in report.choices if one["is_recognised"]] == ["detect"]


@pytest.mark.parametrize(
    "choices",
    [
        "all",
        [{"task": "rm -rf", "layout": "", "classes": 1}],
        [{"task": "detect", "layout": "x" * 65, "classes": 1}],
        [{"task": "detect", "layout": "", "classes": -1}],
        [{"task": "detect", "layout": "", "classes": 1}] * 17,
    ],
)
def test_choices_that_lie_are_no_model(
    choices: Any, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = process.run

    def run(program: str, order: Any, *, out: Path, **given: Any) -> process.ProcessEnd:
        ended = inner(program, order, out=out, **given)
        if program == "workers.sandbox.entry_point":
            said = json.loads((out / REPORT).read_text())
            (out / REPORT).write_text(json.dumps({**said, "choices": choices}))
        return ended

    monkeypatch.setattr(process, "run", run)
    report = sandbox.convert(graph, tmp_path / "out", use_bubblewrap=False)
    assert (report.ok, report.code) == (False, "crashed")
    assert list((tmp_path / "out").iterdir()) == []
