"""The docs site builds without warnings, its generated pages are up to date, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from deploy.reference_pages import apps, commands, settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [apps, commands, settings], ids=lambda page: page.__name__)
def test_generated_pages_are_up_to_date(page: object) -> None:
    """If this fails, run `make docs`."""
    name = page.__name__.rpartition(".")[2]  # type: ignore[attr-defined]  # pages are modules
    assert (ROOT / f"docs/reference/{name}.md").read_text() == page.render(ROOT)  # type: ignore[attr-defined]  # as above


def test_every_variable_of_the_settings_is_described() -> None:
    text = "".join((ROOT / name).read_text() for name in ("ipau/settings.py", "ipau/gunicorn.py"))
    read = set(re.findall(r'env(?:iron)?\.\w+\(\s*"([A-Z0-9_]+)"', text))
    described = {one.name for group in settings.sections(ROOT).values() for one in group}
    # The old name of another setting. The text of that setting mentions it.
    assert read - described == {"IPAU_API_WAITERS"}
    assert len(described) > 50


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Broken links and anchors, and pages missing in the menu, are warnings. `--strict` makes them errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1"}
    )
    assert (result.returncode, result.stderr) == (0, "")
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    assert len(pages) > 20
    loaded = {
        address
        for page in pages
        for address in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(https?://[^"\s>]+)', page)
    }
    assert loaded == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    commands_text = "\n".join(_BLOCK.findall(text)) + "\n".join(re.findall(r"`([^`\n]+)`", text))
    assert set(re.findall(r"manage\.py ([a-z_]+)", commands_text)) <= set(get_commands())
    assert set(re.findall(r"(?<![\w.])make ([a-z-]+)", commands_text)) <= targets
