"""Rules for the structure of the code that no linter checks."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Task, current_app
from django.apps import apps
from django.contrib import admin

from ipau.common.tasks import queue_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipau", "accounts", "drive", "market", "processing", "workers")
HEAVY = ("torch", "ultralytics", "onnxruntime", "cv2", "av")


def _tasks() -> list[Task]:
    current_app.loader.import_default_modules()
    return [task for name, task in current_app.tasks.items() if not name.startswith("celery.")]


def _sources() -> list[Path]:
    found = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return [path for path in found if "migrations" not in path.parts]


def test_the_web_process_loads_no_heavy_library() -> None:
    code = (
        "import django, sys; django.setup()\n"
        "from workers import registry; registry.discover()\n"
        "import ipau.urls\n"
        # Modules that detect file types, and modules of background work.
        "from drive.formats import detect; from drive.uploads import work\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"DJANGO_SETTINGS_MODULE": "ipau.settings", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_every_task_has_an_explicit_name_and_the_delivery_guarantees() -> None:
    ours = _tasks()
    assert {task.name for task in ours} >= {"processing.turn", "processing.sweep", "drive.inspect_uploads"}
    for task in ours:
        assert task.name.split(".")[0] in PACKAGES
        assert task.acks_late, task.name
        assert task.reject_on_worker_lost, task.name
        assert task.ignore_result, task.name
        assert task.soft_time_limit < task.time_limit, task.name


def test_every_queue_has_its_own_exchange() -> None:
    queues = current_app.amqp.queues
    for name in ("cpu", "gpu", "preview", "background", "convert"):
        assert (queues[name].exchange.name, queues[name].routing_key) == (name, name)
    ours = _tasks()
    assert {queue_of(task.name) for task in ours} <= set(queues)
    assert {entry["options"]["queue"] for entry in current_app.conf.beat_schedule.values()} <= set(queues)


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_or_has_a_vague_name(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "managers", "selectors", "misc", "common_utils"}
    assert len(path.read_text().splitlines()) <= 400


def test_tasks_are_a_load_and_a_call() -> None:
    for path in (path for name in PACKAGES for path in (ROOT / name).rglob("tasks.py")):
        if path.parent.name == "common":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                assert len(node.body) <= 6, f"{path}:{node.lineno} is too long for a task: move it to work.py"


def test_every_model_is_in_the_admin_or_listed_here() -> None:
    admin.autodiscover()
    # Rows that are part of another page, or that only code reads.
    inner = {"Thumbnail", "Resource", "Output", "Lane", "CreationKey", "Memo", "FleetSample", "StepModel"}
    # `Drain` has its own page. Secrets must not be readable.
    inner |= {"Drain", "WebhookSecret"}
    missing = {
        model.__name__
        for model in apps.get_models()
        if model._meta.app_label in PACKAGES
        and model not in admin.site._registry
        and model.__name__ not in inner
    }
    assert missing == set()


def test_only_two_functions_are_late_imports() -> None:
    """Lower apps do not import higher apps. Only two functions are registered by name instead."""
    found = {str(path.relative_to(ROOT)) for path in _sources() if "LateImport()" in path.read_text()}
    assert found == {"drive/files/origin.py", "processing/notifications/work.py"}
    by_name = {str(path.relative_to(ROOT)) for path in _sources() if "import_string" in path.read_text()}
    assert by_name == {"ipau/common/late_import.py"}


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in _sources():
        # Django requires this class name in each command.
        framework = {"Command"} if path.parent.name == "commands" else set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name not in framework:
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 500
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
