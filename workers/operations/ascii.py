"""ASCII art: an image drawn with characters, as an image and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationInfo, field_validator

from workers.plugin import (
    IMAGE,
    Context,
    Operation,
    OutputSpec,
    Params,
    PictureView,
    Result,
    choice,
    slider,
    text,
    toggle,
)

_SETS = {
    "standard": " .:-=+*#%@",
    "dense": " .'`^\",:;Il!i><~+_-?][}{1)(|/tfjrxnuvczXYUJCLQ0OZmwqpdbkhao*#MW&8%B@$",
    "blocks": " ░▒▓█",
    "binary": " 01",
}
_SHADES = {" ": 0.0, "░": 0.25, "▒": 0.5, "▓": 0.75, "█": 1.0}
# Larger results would exceed the size limit of images.
_MAX_ROWS = 2000
_MAX_SIDE = 16_000


class AsciiParams(Params):
    columns: int = slider(120, ge=20, le=400, title="Columns", help="Width of the result in characters.")
    characters: Literal["standard", "dense", "blocks", "binary", "custom"] = choice(
        "standard",
        labels={
            "standard": "Standard (10 characters)",
            "dense": "Dense (70 characters)",
            "blocks": "Shaded blocks",
            "binary": "Zeros and ones",
            "custom": "Custom",
        },
        title="Characters",
        help="Characters to draw with. They are sorted from light to dark.",
    )
    custom: str = text(
        " .oO@",
        max_length=95,
        title="Custom characters",
        help="At least two different characters: ASCII letters, digits, punctuation or ░▒▓█.",
        show_if={"characters": ["custom"]},
    )
    inverted: bool = toggle(False, title="Invert", help="Light characters on a black background.")
    colored: bool = toggle(
        False, title="Color", help="Draw each character in the color of its part of the image."
    )
    stretch: bool = toggle(
        True,
        title="Auto contrast",
        help="Stretch the tones of the image, so that all characters are used.",
        advanced=True,
    )
    size: int = slider(
        16,
        ge=8,
        le=32,
        title="Character size",
        help="Height of a character in the result.",
        unit="px",
        advanced=True,
    )

    @field_validator("custom")
    @classmethod
    def _check_drawable(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("characters") != "custom":
            return value
        if any(not (" " <= character <= "~") and character not in _SHADES for character in value):
            raise ValueError("Custom characters can only be ASCII letters, digits, punctuation or ░▒▓█.")
        if len(set(value)) < 2:
            raise ValueError("Custom characters must have at least two different characters.")
        return value


@dataclass(frozen=True)
class Atlas:
    """Drawn characters, lightest first. `glyphs` is (n, height, width); 255 is full ink."""

    characters: tuple[str, ...]
    glyphs: NDArray[np.uint8]

    @property
    def ink(self) -> NDArray[np.float64]:
        """Mean ink of each character, from 0 (lightest) to 1 (darkest)."""
        mean = self.glyphs.mean(axis=(1, 2))
        return np.asarray((mean - mean[0]) / max(mean[-1] - mean[0], 1e-9))


class Ascii(Operation[AsciiParams]):
    """Draws an image with characters."""

    key = "ascii"
    title = "ASCII art"
    summary = "Draw an image with text characters, as an image and as a text file."
    description = (
        "Choose the number of **columns** and the **characters**. They are sorted by their measured "
        "ink. You get a PNG image and a `.txt` file. Show the text in a monospaced font."
    )
    tier = "basic"
    version = 1
    outputs = (IMAGE, OutputSpec("text", "text", "Text"))
    Params = AsciiParams

    def run(self, picture: PictureView, params: AsciiParams, context: Context) -> Result:
        # The result does not depend on the input's size in pixels, so previews need no scaling.
        columns, rows, height = _plan_grid(picture, params)
        characters = _choose_characters(params)
        atlas = context.keep(
            ("ascii", characters, height),
            lambda: build_atlas(characters, height),
            lambda atlas: atlas.glyphs.nbytes,
        )
        tones = np.asarray(picture.reduced_gray(columns, rows).resize((columns, rows), Image.Resampling.BOX))
        table = match_ink(atlas.ink, inverted=params.inverted)
        indices = table[stretch_tones(tones) if params.stretch else tones]
        if params.colored:
            cells = picture.reduced(columns, rows).resize((columns, rows), Image.Resampling.BOX)
            image = _tint(_assemble(indices, atlas.glyphs), cells, inverted=params.inverted)
        else:
            image = _draw_gray(indices, atlas, inverted=params.inverted)
        text = write_text(indices, atlas.characters)
        return Result(image=image, format="PNG", texts={"text": text}, scale=1.0)


def _plan_grid(picture: PictureView, params: AsciiParams) -> tuple[int, int, int]:
    """Return the columns, the rows and the height of a character in pixels."""
    aspect = _measure_width(params.size) / params.size
    rows = round(params.columns * picture.height / picture.width * aspect)
    rows = min(_MAX_ROWS, max(1, rows))
    return params.columns, rows, min(params.size, _MAX_SIDE // rows)


def _choose_characters(params: AsciiParams) -> str:
    return params.custom if params.characters == "custom" else _SETS[params.characters]


def build_atlas(characters: str, height: int) -> Atlas:
    """Draw each distinct character once, `height` pixels high, and sort them by ink."""
    distinct = list(dict.fromkeys(characters))
    width = _measure_width(height)
    font = ImageFont.load_default(height * 0.82)
    glyphs = np.stack([_draw_glyph(character, font, width, height) for character in distinct])
    order = np.argsort(glyphs.mean(axis=(1, 2)), kind="stable")
    return Atlas(tuple(distinct[index] for index in order), glyphs[order])


def match_ink(ink: NDArray[np.float64], *, inverted: bool) -> NDArray[np.uint8]:
    """Return, for each tone 0..255, the index of the character with the nearest ink."""
    tones = np.arange(256) / 255
    wanted = tones if inverted else 1 - tones
    return np.asarray(np.searchsorted((ink[1:] + ink[:-1]) / 2, wanted), dtype=np.uint8)


def stretch_tones(tones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch the 1st to 99th percentile to 0..255. Images with almost no contrast stay unchanged."""
    low, high = np.percentile(tones, (1, 99))
    if high - low < 8:
        return tones
    stretched = (tones.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(stretched, 0, 255), dtype=np.uint8)


def write_text(indices: NDArray[np.uint8], characters: tuple[str, ...]) -> str:
    """Return one line of text for each row, each with a newline. `indices` is (rows, columns)."""
    lines = np.array(characters)[indices]
    return "".join("".join(line) + "\n" for line in lines)


def _measure_width(height: int) -> int:
    return max(1, round(height * 0.55))


def _draw_glyph(
    character: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, height: int
) -> NDArray[np.uint8]:
    """Draw one character. Pillow's built-in font is proportional, so wide characters are squeezed."""
    if character in _SHADES:
        return np.full((height, width), round(255 * _SHADES[character]), dtype=np.uint8)
    natural = max(width, round(font.getlength(character)) + 2)
    canvas = Image.new("L", (natural, height))
    ImageDraw.Draw(canvas).text((natural / 2, height * 0.77), character, fill=255, font=font, anchor="ms")
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def _assemble(indices: NDArray[np.uint8], glyphs: NDArray[np.uint8]) -> Image.Image:
    """Return the glyphs as one image, mode L. `indices` is (rows, columns)."""
    rows, columns = indices.shape
    _, height, width = glyphs.shape
    pixels = glyphs[indices].transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return Image.fromarray(pixels)


def _draw_gray(indices: NDArray[np.uint8], atlas: Atlas, *, inverted: bool) -> Image.Image:
    """Draw dark on white, or light on black, in 16 grays, which halves the file size."""
    image = _assemble(indices, atlas.glyphs // np.uint8(16))
    ramp = range(0, 256, 17) if inverted else range(255, -1, -17)
    image.putpalette([code for gray in ramp for code in (gray, gray, gray)])
    return image


def _tint(ink: Image.Image, cells: Image.Image, *, inverted: bool) -> Image.Image:
    """Color the ink of each cell with the mean color of the cell."""
    background = Image.new("RGB", ink.size, (0, 0, 0) if inverted else (255, 255, 255))
    return Image.composite(cells.resize(ink.size, Image.Resampling.NEAREST), background, ink)
