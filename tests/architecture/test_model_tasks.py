"""What models do stands in one table: families give no other task, and no module keeps a list of its own."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from django.core.management.commands import makemessages
from pydantic import ValidationError

from market.weights import report
from tests.workers.families import samples
from workers import tasks
from workers.bundle import Choice
from workers.configs.model_config import Wishes
from workers.families.yolo.ultralytics_yaml import HEADS
from workers.tasks import FINDERS, TASKS
from workers.vision.detect import settings_for

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "deploy", "drive", "ipau", "market", "processing", "workers")
FAMILIES = ROOT / "workers/families"
# Ultralytics' own names of its classes, which mean nothing outside of its family.
FOREIGN = {"workers/families/yolo/ultralytics_models.py": "_MODELS"}


def lists_of_tasks(source: str) -> Iterator[tuple[int, str]]:
    """Return the lines of a module that keep something for each task or for most, and its name."""
    tree = ast.parse(source)
    names = {id(node.value): _target(node) for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = _texts(key for key in node.keys if key is not None)
            if len(keys) == len(node.keys) and len(keys) > 1 and keys <= TASKS.keys():
                yield node.lineno, names.get(id(node), "")
        elif isinstance(node, ast.Tuple | ast.List | ast.Set) and len(_texts(node.elts) & TASKS.keys()) > 3:
            yield node.lineno, names.get(id(node), "")


def _target(node: ast.Assign) -> str:
    return getattr(node.targets[0], "id", "")


def _texts(nodes: Iterator[ast.expr] | list[ast.expr]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def sources(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "migrations" not in path.parts)


def test_no_other_module_has_a_table_of_tasks() -> None:
    table = Path(tasks.__file__)
    found = {
        str(path.relative_to(ROOT)): {name for _, name in lines}
        for app in APPS
        for path in sources(ROOT / app)
        if path != table and (lines := list(lists_of_tasks(path.read_text())))
    }
    assert found == {path: {name} for path, name in FOREIGN.items()}


@pytest.mark.parametrize(
    "line",
    [
        "TITLES = {'detect': 'Detects', 'classify': 'Classifies'}",
        "show({'pose': 1, 'obb': 2})",
        "FINDING = frozenset({'detect', 'segment', 'pose', 'obb'})",
        "TASKS = ('detect', 'segment', 'pose', 'obb', 'classify')",
        "task: Literal['detect', 'segment', 'pose', 'obb', 'classify', 'image']",
    ],
)
def test_a_table_elsewhere_is_found(line: str) -> None:
    assert list(lists_of_tasks(line))


def told_by(source: str) -> Iterator[str]:
    """Return the tasks that the code of a family names: in facts, in plans, and where it compares."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "task" and isinstance(value, ast.Constant):
                    yield value.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Plan" and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).strip("'\"]").endswith("task"):
            yield from _texts(node.comparators)


def test_each_task_of_every_family_is_in_the_table() -> None:
    families = [path.name for path in FAMILIES.iterdir() if (path / "family.py").exists()]
    found = {
        family: {task for path in sources(FAMILIES / family) for task in told_by(path.read_text())}
        for family in families
    }
    found["yolo"] |= set(HEADS.values())
    assert {"gan", "onnx", "vit", "yolo"} <= set(found)
    assert all(found.values())
    assert {task for one in found.values() for task in one} == set(TASKS)
    assert set(samples.every_task()) <= set(TASKS)


@pytest.mark.parametrize("task", ["", "depth", "Detect", "detect ", "detectx", "detect|segment"])
def test_a_model_of_another_task_is_no_bundle(task: str) -> None:
    with pytest.raises(ValidationError):
        Choice(task=task, classes=1)
    with pytest.raises(ValidationError):
        Wishes.model_validate({"task": task})


def test_a_model_of_each_task_is_one() -> None:
    for task in TASKS:
        assert Choice(task=task, classes=1).task == Wishes.model_validate({"task": task}).task == task
    assert tuple(TASKS) == get_args(tasks.TaskKey)


def test_finders_tell_places_and_have_settings_for_what_they_find() -> None:
    assert FINDERS == ("detect", "segment", "pose", "obb")
    offered = {task: settings_for({"task": task, "layout": "anchors"}) for task in TASKS}
    assert "masks" in offered["segment"]
    assert "keypoints" in offered["pose"]
    assert not {"masks", "keypoints"} & {*offered["detect"], *offered["obb"], *offered["classify"]}


def test_pages_show_titles_and_names_in_their_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """`workers` knows no Django: texts are marked there and translated where they are shown."""
    assert "--keyword=gettext_noop" in inspect.getsource(makemessages)
    marked = {
        node.args[0].value
        for node in ast.walk(ast.parse(Path(tasks.__file__).read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "gettext_noop"
        if isinstance(node.args[0], ast.Constant)
    }
    assert marked == {text for task in TASKS.values() for text in (task.title, task.name)}
    assert report.name_task("detect") == "Detector"
    assert report.name_task("unknown") == "unknown"
    monkeypatch.setattr(report, "_", lambda text: f"«{text}»")
    assert [report.name_task(task) for task in TASKS] == [f"«{task.name}»" for task in TASKS.values()]
    choice = {"task": "obb", "layout": "", "classes": 0}
    assert report._choice(choice, "").text == "«Detects oriented boxes»"
