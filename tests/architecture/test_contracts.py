"""Tests of the import contracts: code that breaks a contract is reported."""

import ast
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("ipau", "accounts", "drive", "market", "processing", "workers")
# Domain packages, which must not use HTTP.
DOMAIN = ("drive/files", "drive/storage", "drive/uploads", "drive/shares", "market/weights")
DOMAIN += ("market/pipelines", "market/listings", "market/sandbox", "processing/jobs", "processing/execution")
DOMAIN += ("processing/job_queue", "processing/notifications", "processing/reporting", "processing/fleet")

# Files with a violation: source, and the contract that it breaks.
VIOLATIONS = {
    "drive/planted.py": ("", "Inside drive"),
    "market/planted.py": ("", "Inside market"),
    "processing/planted.py": ("", "Inside processing"),
    "accounts/planted.py": ("", "Inside accounts"),
    "workers/planted.py": ("", "Inside workers"),
    "drive/files/planted.py": ("import market.models\n", "Apps import only lower apps"),
    "workers/vision/planted.py": ("import django\n", "workers imports no web framework"),
    "workers/nets/planted.py": ("import ipau.common.errors\n", "workers does not import ipau"),
    "market/listings/planted.py": ("import rest_framework\n", "Domain packages do not import rest_framework"),
    "processing/jobs/planted.py": ("import torch\n", "Only workers imports heavy libraries"),
    "workers/operations/planted.py": (
        "import workers.operations.ascii\n",
        "Operations and families do not import each other",
    ),
    "accounts/management/planted.py": ("import ipau.common.postgresql.base\n", "Public face of ipau"),
    "market/views/planted.py": ("import accounts.services\n", "Public face of accounts"),
    "market/pipelines/planted.py": ("import drive.files.quota\n", "Public face of drive"),
    "processing/playground/planted.py": ("import market.sandbox.budgets\n", "Public face of market"),
    "ipau/supervisor/planted.py": ("import processing.job_queue.claims\n", "Public face of processing"),
    "drive/formats/planted.py": ("import workers.checkpoints.pickle_reader\n", "Public face of workers"),
}


@pytest.fixture(scope="module")
def linter_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the output of the linter for a copy of the code with all violations."""
    copy = tmp_path_factory.mktemp("planted")
    for app in APPS:
        shutil.copytree(ROOT / app, copy / app, ignore=shutil.ignore_patterns("*.pyc", "static", "fonts"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, (source, _) in VIOLATIONS.items():
        (copy / name).write_text(source)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_reported(name: str, linter_output: str) -> None:
    contract = VIOLATIONS[name][1]
    lines = [line for line in linter_output.splitlines() if line.startswith(contract)]
    assert any(" BROKEN" in line for line in lines), linter_output
    module = name.removesuffix(".py").replace("/", ".")
    assert module in linter_output


@pytest.mark.parametrize("app", APPS)
def test_other_apps_import_each_module_of_a_public_face(app: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (one for one in settings["contracts"] if one["name"] == f"Public face of {app}")
    assert contract["protected_modules"] == [app]
    importers = _importers()
    unused = []
    for line in contract["ignore_imports"]:
        importer, module = line.split(" -> ")
        of_others = {
            one
            for name, found in importers.items()
            if fnmatchcase(name, module)
            for one in found
            if one.split(".")[0] != app and fnmatchcase(one, importer)
        }
        if not of_others:
            unused.append(line)
    assert unused == []


@cache
def _importers() -> dict[str, set[str]]:
    """Return the modules that import each module."""
    graph = grimp.build_graph(*APPS, cache_dir=None)
    return {name: graph.find_modules_that_directly_import(name) for name in graph.modules}


def test_domain_packages_do_not_import_django_http() -> None:
    # It splits host names with Django's function.
    allowed = {ROOT / "processing/notifications/url_policy.py"}
    violations = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in DOMAIN
        for path in set((ROOT / folder).rglob("*.py")) - allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django.http")
    ]
    assert violations == []


def test_no_package_has_more_than_15_modules() -> None:
    too_large = {
        str(folder.relative_to(ROOT)): len(modules)
        for app in (*APPS, "deploy")
        for folder in (ROOT / app).rglob("")
        if folder.is_dir() and folder.name != "migrations"
        if len(modules := [path for path in folder.glob("*.py") if path.name != "__init__.py"]) > 15
    }
    assert too_large == {}
