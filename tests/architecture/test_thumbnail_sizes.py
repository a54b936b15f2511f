"""The sizes of thumbnails stand in one table, and in the texts that tell people of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from drive.forms import ShareForm
from workers import thumbnail_sizes

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "drive", "ipau", "market", "processing", "workers")
SIZES = {name: size for name, size in vars(thumbnail_sizes).items() if name.endswith("_SIDE")}
# What makes or finds a thumbnail: the size is one of its arguments.
CALLS = {"thumbnail", "encode_thumbnail", "thumbnail_of", "NewThumbnail", "Thumbnail", "preview"}


def breaches(source: str) -> Iterator[tuple[int, str]]:
    """Return the lines of a module that give a size of their own, and how."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & (SIZES.keys() | {"SIDE"}):
                yield node.lineno, "a size of its own"
        elif isinstance(node, ast.Call):
            if _name(node.func) in CALLS and any(map(_is_number, _given(node))):
                yield node.lineno, "a number for a size"
        elif isinstance(node, ast.arguments):
            given = [*node.args, *node.kwonlyargs]
            defaults = [*node.defaults, *(one for one in node.kw_defaults if one)]
            if {"side", "max_side"} & {one.arg for one in given} and any(map(_is_number, defaults)):
                yield node.args[0].lineno, "a number as default"


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", None) or getattr(node, "id", "")


def _given(call: ast.Call) -> list[ast.AST]:
    return [*call.args, *(one.value for one in call.keywords if one.arg in {"side", "max_side"})]


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in SIZES.values()


def test_sizes_stand_in_one_table() -> None:
    assert SIZES == {"THUMBNAIL_SIDE": 256, "VIEW_SIDE": 1024, "PREVIEW_SIDE": 1024, "SAMPLE_SIDE": 640}
    table = Path(thumbnail_sizes.__file__)
    found = {
        str(path.relative_to(ROOT)): lines
        for app in APPS
        for path in (ROOT / app).rglob("*.py")
        if path != table and "migrations" not in path.parts and (lines := list(breaches(path.read_text())))
    }
    assert found == {}


def test_pages_ask_for_no_size_by_its_number() -> None:
    address = re.compile(r":thumbnail['\"][^%]*\b\d+")
    pages = [path for app in APPS for path in (ROOT / app).rglob("*.html")]
    assert len(pages) > 50
    assert [path.name for path in pages if address.search(path.read_text())] == []


@pytest.mark.parametrize(
    "line",
    [
        "THUMBNAIL_SIDE = 256",
        "SIDE = 640",
        "engine.thumbnail(data, 1024)",
        "Thumbnail(source=1, side=256)",
        "NewThumbnail('a', 256, 'b')",
        "def preview(data, *, max_side=1024): ...",
        "def thumbnail(data, side=256): ...",
    ],
)
def test_a_size_elsewhere_is_found(line: str) -> None:
    assert list(breaches(line))


def test_texts_tell_the_sizes_of_the_table() -> None:
    told = f"{thumbnail_sizes.VIEW_SIDE} pixels a side"
    assert told in str(ShareForm.base_fields["can_download"].help_text)
    texts = ["docs/reference/api.md", "docs/explanation/files.md"]
    assert all(told in (ROOT / name).read_text() for name in texts)
    previewed = f"{thumbnail_sizes.PREVIEW_SIDE} pixels a side"
    assert previewed in (ROOT / "processing/api/previews.py").read_text()
