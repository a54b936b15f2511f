"""Tests of the documentation: the modules, functions, files and links that it names exist."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.apps import apps

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipau", "accounts", "drive", "market", "processing", "workers", "deploy", "tests")
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(\))?`")
_PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]*)`")
# Files of the examples in CONTRIBUTING.md, which do not exist.
EXAMPLES = {"workers/operations/posterise.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    names = set(_DOTTED.findall(page.read_text()))
    missing = sorted(name for name in names if not _exists(name))
    assert missing == []


def _exists(name: str) -> bool:
    """Return whether this is a module or a name in a module. nginx's files look like modules: ignore them."""
    parts = name.split(".")
    if parts[-1] == "conf":
        return True
    for count in range(len(parts), 0, -1):
        file = ROOT.joinpath(*parts[:count])
        source = file.with_suffix(".py") if file.with_suffix(".py").exists() else file / "__init__.py"
        if source.exists():
            return count == len(parts) or re.search(rf"\b{parts[count]}\b", source.read_text()) is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    names = set(_PATH.findall(page.read_text())) - EXAMPLES
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


# Section of CONTRIBUTING.md, and the minimum number of files that it names.
GUIDES = {
    "Change an app's parameter": 4,
    "Add an app": 2,
    "Add a family": 8,
    "Add a page": 6,
    "Add a field of the API": 8,
    "Add a setting": 4,
    "Change what a worker does": 4,
}


@pytest.mark.parametrize("title", GUIDES)
def test_contributing_names_the_files_of_each_change(title: str) -> None:
    _, _, rest = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {title}\n")
    section = rest.partition("\n## ")[0]
    steps = re.findall(r"^(\d\. .*(?:\n   .*)*)", section, re.MULTILINE)
    assert [step.partition(".")[0] for step in steps] == [str(one + 1) for one in range(len(steps))]
    files = {path for step in steps for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.toml)`", step)}
    assert len(files) >= GUIDES[title]
    assert sorted(path for path in files if not (ROOT / path).exists()) == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_has_a_target(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text())
    broken = []
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


def test_the_page_where_names_many_files() -> None:
    rows = [
        line
        for line in (ROOT / "docs/contributing/where.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 50
    assert all(_PATH.search(row) for row in rows[1:])


def test_architecture_describes_every_folder_of_an_app() -> None:
    described = (ROOT / "docs/explanation/architecture.md").read_text()
    kinds = {"migrations", "management", "templates", "static", "templatetags", "models", "views", "api"}
    kinds |= {"serializers", "forms", "fonts", "locale", "demo_photos", "__pycache__"}
    folders = [
        f"{app}/{folder.name}/"
        for app in ("ipau", "accounts", "drive", "market", "processing", "workers")
        for folder in (ROOT / app).iterdir()
        if folder.name not in kinds and any(folder.rglob("*.py"))
    ]
    assert [folder for folder in folders if f"`{folder}`" not in described] == []


def test_all_packages_can_be_imported() -> None:
    assert all(find_spec(name) is not None for name in PACKAGES)


def _fields(node: ast.ClassDef) -> list[str]:
    """Return the public fields and properties of a class."""
    found = [
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    ]
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and any(
            ast.unparse(mark) == "property" for mark in one.decorator_list
        ):
            found.append(one.name)
    return [name for name in found if not name.startswith("_")]


def test_docstrings_of_the_plugin_api_describe_every_field() -> None:
    tree = ast.parse((ROOT / "workers/plugin.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    seen = ("Context", "PictureSet", "Model", "PictureView", "OutputSpec", "Result", "Operation")
    missing = {}
    for name in seen:
        _, _, described = (ast.get_docstring(classes[name]) or "").partition("Attributes:\n")
        fields = _fields(classes[name])
        assert fields, name
        missing[name] = [
            field for field in fields if not re.search(rf"^    {field}: \S", described, re.MULTILINE)
        ]
    assert missing == {name: [] for name in seen}


MODELS = {
    "accounts": "accounts/models.py",
    "drive": "drive/models/__init__.py",
    "market": "market/models/__init__.py",
    "processing": "processing/models/__init__.py",
}


@pytest.mark.parametrize("app", MODELS)
def test_docstring_of_models_names_each_model(app: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / MODELS[app]).read_text())) or ""
    models = {model.__name__ for model in apps.get_app_config(app).get_models()}
    assert models
    terms = re.findall(r"^- (\w+): \S", said, re.MULTILINE)
    assert sorted(terms) == sorted(models)
    assert len(said.splitlines()) <= 27
