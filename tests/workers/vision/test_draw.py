"""Fonts of labels."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from workers.vision.draw import FONTS, draw_title


def written(text: str) -> bytes:
    return draw_title(Image.new("RGB", (400, 60)), text, 0).tobytes()


@pytest.mark.parametrize("letters", ["ab", "éà", "жщ", "λπ", "אב", "قم", "กข", "ดู"], ids=ascii)
def test_letters_are_told_apart(letters: str) -> None:
    """What a font lacks is a box, whichever letter it stands for."""
    assert written(letters[0]) != written(letters[1])
    assert written(letters[0]) != written("\u0378")


def test_thai_marks_stand_above_their_letter() -> None:
    plain, marked = (
        np.frombuffer(written(f"ก{mark}น"), np.uint8).reshape(60, 400, 3) for mark in ("", "\u0e34")
    )
    width = [int((picture != picture[0, -1]).any(axis=(0, 2)).sum()) for picture in (plain, marked)]
    assert abs(width[0] - width[1]) <= 3


def test_vendored_fonts_are_unchanged() -> None:
    fonts = json.loads((FONTS / "vendored.json").read_text())["fonts"]
    assert {font["file"] for font in fonts} == {path.name for path in FONTS.glob("*.ttf")}
    for font in fonts:
        assert hashlib.sha256((FONTS / font["file"]).read_bytes()).hexdigest() == font["sha256"]
        assert (FONTS / font["file"]).with_suffix(".LICENCE.txt").exists()
