"""Names and links in the docs: modules, functions, files, folders and anchors exist."""

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
# A file that only the example in CONTRIBUTING has.
EXAMPLES = {"workers/operations/posterise.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_of_a_page_exist(page: Path) -> None:
    names = set(_DOTTED.findall(page.read_text()))
    missing = sorted(name for name in names if not _exists(name))
    assert missing == []


def _exists(name: str) -> bool:
    """Return whether this is a module or a name in one. Names of nginx files (`….conf`) always pass."""
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
def test_files_of_a_page_exist(page: Path) -> None:
    names = set(_PATH.findall(page.read_text())) - EXAMPLES
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


# The guides of CONTRIBUTING, with the minimum number of files in their steps.
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
def test_guides_of_contributing_list_existing_files(title: str) -> None:
    _, _, rest = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {title}\n")
    section = rest.partition("\n## ")[0]
    steps = re.findall(r"^(\d\. .*(?:\n   .*)*)", section, re.MULTILINE)
    assert [step.partition(".")[0] for step in steps] == [str(one + 1) for one in range(len(steps))]
    files = {path for step in steps for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.toml)`", step)}
    assert len(files) >= GUIDES[title]
    assert sorted(path for path in files if not (ROOT / path).exists()) == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_work(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text())
    broken = []
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_texts_are_titles(page: Path) -> None:
    texts = re.findall(r"\[([^\]]+)\]\(", page.read_text())
    assert [text for text in texts if "docs/" in text or text.endswith(".md")] == []


# Written by `python -m deploy.reference_pages`.
GENERATED = {"apps.md", "commands.md", "settings.md"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: page.name
)
def test_pages_start_with_a_title_and_a_sentence(page: Path) -> None:
    title, _, text = page.read_text().partition("\n\n")
    assert re.fullmatch(r"# \S[^\n]*", title)
    first = text.partition("\n\n")[0]
    assert not first.startswith(("#", "|", "-", "!", "```", "1.")), first
    assert re.search(r"\.(?:$|\s)", first), first


def test_where_page_lists_files() -> None:
    rows = [
        line
        for line in (ROOT / "docs/contributing/where.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 50
    assert all(_PATH.search(row) for row in rows[1:])


def test_architecture_page_describes_every_folder() -> None:
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


def test_packages_can_be_imported() -> None:
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


def test_docstrings_describe_fields_of_the_operation_api() -> None:
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
def test_models_docstring_lists_each_model(app: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / MODELS[app]).read_text())) or ""
    models = {model.__name__ for model in apps.get_app_config(app).get_models()}
    assert models
    terms = re.findall(r"^- (\w+): \S", said, re.MULTILINE)
    assert sorted(terms) == sorted(models)
    assert len(said.splitlines()) <= 27
