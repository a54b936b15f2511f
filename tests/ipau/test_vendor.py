"""Tests of vendored browser libraries: files match their digests, and used icons exist."""

import json
import re
import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.loader import get_template

from deploy import vendor

TEMPLATES = sorted(
    path
    for room in ("ipau", "accounts", "drive", "market", "processing")
    for path in (settings.BASE_DIR / room).rglob("templates/**/*.html")
)
NAMES = vendor.sprite_names()


def test_vendored_files_are_unchanged() -> None:
    assert vendor.faults() == []


def test_a_changed_missing_or_extra_file_is_found(tmp_path: Path) -> None:
    static = tmp_path / "static"
    shutil.copytree(vendor.STATIC, static)
    first, second, *_ = json.loads((static / "vendor/vendored.json").read_text())["packages"][0]["files"]
    (static / first).write_text("changed")
    (static / second).unlink()
    (static / "vendor" / "extra.js").write_text("")
    assert vendor.faults(static) == sorted(
        [f"{first}: changed", f"{second}: missing", "vendor/extra.js: not on the list"]
    )


def test_no_file_points_to_a_source_map() -> None:
    for path in vendor.STATIC.rglob("*"):
        if path.suffix in {".js", ".css"}:
            assert "sourceMappingURL" not in path.read_text(), path


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(settings.BASE_DIR)))
class TestTemplate:
    def test_it_compiles(self, path: Path) -> None:
        get_template(str(path).split("/templates/", 1)[1])

    def test_its_icons_are_in_the_sprite(self, path: Path) -> None:
        text = path.read_text()
        used = re.findall(r'includes/icon\.html" with name="([a-z0-9-]+)"', text)
        used += re.findall(r'\bicon="([a-z0-9-]+)"', text)
        assert set(used) <= NAMES

    def test_its_static_files_exist(self, path: Path) -> None:
        for name in re.findall(r"""\{% static ['"]([^'"]+)['"]""", path.read_text()):
            assert finders.find(name), name

    def test_it_obeys_the_content_security_policy(self, path: Path) -> None:
        """No inline styles, handlers or scripts, and no htmx attribute that needs eval."""
        found = re.search(
            r"""\s(style|on[a-z]+|hx-on[:a-z-]*)=["']|hx-vals=["']js:|<style|<script>""", path.read_text()
        )
        assert found is None, found
