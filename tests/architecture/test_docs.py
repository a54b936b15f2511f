"""What the docs name is there: modules, functions and files."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipau", "accounts", "drive", "market", "processing", "workers", "deploy", "tests")
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(\))?`")
_PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]*)`")
# Of the examples in CONTRIBUTING.
EXAMPLES = {"workers/operations/posterise.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    names = set(_DOTTED.findall(page.read_text()))
    missing = sorted(name for name in names if not _exists(name))
    assert missing == []


def _exists(name: str) -> bool:
    """Whether this is a module, or something that stands in one. nginx's files look alike and are none."""
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
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    names = set(_PATH.findall(page.read_text())) - EXAMPLES
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


def test_the_page_of_places_names_many() -> None:
    rows = [
        line
        for line in (ROOT / "docs/contributing/where.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 50
    assert all(_PATH.search(row) for row in rows[1:])


def test_every_folder_of_an_app_is_described() -> None:
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


def test_the_packages_can_be_found() -> None:
    assert all(find_spec(name) is not None for name in PACKAGES)
