"""The import contracts hold what they say: code that breaks one is named."""

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
# The domain, which knows nothing of HTTP.
DOMAIN = ("drive/files", "drive/storage", "drive/uploads", "drive/shares", "market/weights")
DOMAIN += ("market/pipelines", "market/listings", "market/sandbox", "processing/jobs", "processing/execution")
DOMAIN += ("processing/job_queue", "processing/notifications", "processing/reporting", "processing/fleet")

# A file with a breach, and the contract that it breaks.
BREACHES = {
    "drive/planted.py": ("", "Inside drive"),
    "market/planted.py": ("", "Inside market"),
    "processing/planted.py": ("", "Inside processing"),
    "accounts/planted.py": ("", "Inside accounts"),
    "workers/planted.py": ("", "Inside workers"),
    "drive/files/planted.py": ("import market.models\n", "Apps:"),
    "workers/vision/planted.py": ("import django\n", "workers is pure pixels"),
    "workers/nets/planted.py": ("import ipau.common.errors\n", "workers knows nothing of ipau"),
    "market/listings/planted.py": ("import rest_framework\n", "The domain knows no HTTP"),
    "processing/jobs/planted.py": ("import torch\n", "Only workers may touch the heavy libraries"),
    "workers/operations/planted.py": (
        "import workers.operations.ascii\n",
        "Operations and families never import each other",
    ),
    "accounts/management/planted.py": ("import ipau.common.postgresql.base\n", "Public face of ipau"),
    "market/views/planted.py": ("import accounts.services\n", "Public face of accounts"),
    "market/pipelines/planted.py": ("import drive.files.quota\n", "Public face of drive"),
    "processing/playground/planted.py": ("import market.sandbox.budgets\n", "Public face of market"),
    "ipau/supervisor/planted.py": ("import processing.job_queue.claims\n", "Public face of processing"),
    "drive/formats/planted.py": ("import workers.checkpoints.pickle_reader\n", "Public face of workers"),
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the code with all breaches in it."""
    copy = tmp_path_factory.mktemp("planted")
    for app in APPS:
        shutil.copytree(ROOT / app, copy / app, ignore=shutil.ignore_patterns("*.pyc", "static", "fonts"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, (source, _) in BREACHES.items():
        (copy / name).write_text(source)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_named(name: str, verdict: str) -> None:
    contract = BREACHES[name][1]
    lines = [line for line in verdict.splitlines() if line.startswith(contract)]
    assert any(" BROKEN" in line for line in lines), verdict
    module = name.removesuffix(".py").replace("/", ".")
    assert module in verdict


@pytest.mark.parametrize("app", APPS)
def test_a_public_face_has_no_module_that_no_other_app_imports(app: str) -> None:
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


def test_the_domain_knows_no_http_of_django() -> None:
    # It takes host names apart as Django does.
    allowed = {ROOT / "processing/notifications/url_policy.py"}
    breaches = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in DOMAIN
        for path in set((ROOT / folder).rglob("*.py")) - allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django.http")
    ]
    assert breaches == []


def test_no_package_is_crowded() -> None:
    crowded = {
        str(folder.relative_to(ROOT)): len(modules)
        for app in (*APPS, "deploy")
        for folder in (ROOT / app).rglob("")
        if folder.is_dir() and folder.name != "migrations"
        if len(modules := [path for path in folder.glob("*.py") if path.name != "__init__.py"]) > 15
    }
    assert crowded == {}
