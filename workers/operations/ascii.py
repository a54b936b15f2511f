"""ASCII art: a picture drawn with characters, as a picture and as text."""

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
# Beyond these the drawn picture would itself be refused as too large.
_MOST_ROWS = 2000
_MOST_SIDE = 16_000


class AsciiParams(Params):
    columns: int = slider(120, ge=20, le=400, title="Columns", help="How many characters wide the result is.")
    characters: Literal["standard", "dense", "blocks", "binary", "custom"] = choice(
        "standard",
        labels={
            "standard": "Standard (10 characters)",
            "dense": "Dense (70 characters)",
            "blocks": "Shaded blocks",
            "binary": "Zeros and ones",
            "custom": "Your own",
        },
        title="Characters",
        help="What the picture is drawn with. They are ordered by how much ink each takes.",
    )
    custom: str = text(
        " .oO@",
        max_length=95,
        title="Your characters",
        help="At least two different letters, digits or signs of the Latin keyboard.",
        show_if={"characters": ["custom"]},
    )
    inverted: bool = toggle(False, title="Light on dark", help="Light characters on a black ground.")
    colored: bool = toggle(
        False, title="In color", help="Each character takes the color of what it stands for."
    )
    stretch: bool = toggle(
        True,
        title="Use all characters",
        help="Stretches the picture’s tones over the whole set.",
        advanced=True,
    )
    size: int = slider(
        16,
        ge=8,
        le=32,
        title="Character size",
        help="Height of a character in the drawn picture.",
        unit="px",
        advanced=True,
    )

    @field_validator("custom")
    @classmethod
    def _check_drawable(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("characters") != "custom":
            return value
        if any(not (" " <= sign <= "~") and sign not in _SHADES for sign in value):
            raise ValueError("Your characters may be letters, digits and signs of the Latin keyboard only.")
        if len(set(value)) < 2:
            raise ValueError("Your characters must be at least two different ones.")
        return value


@dataclass(frozen=True)
class Atlas:
    """Characters and their ink: `glyphs` is (n, height, width), 255 where fully inked, lightest first."""

    signs: tuple[str, ...]
    glyphs: NDArray[np.uint8]

    @property
    def ink(self) -> NDArray[np.float64]:
        """Mean ink of each, 0 for the lightest of the set to 1 for the heaviest."""
        mean = self.glyphs.mean(axis=(1, 2))
        return np.asarray((mean - mean[0]) / max(mean[-1] - mean[0], 1e-9))


class Ascii(Operation[AsciiParams]):
    """Draws a picture with characters."""

    key = "ascii"
    title = "ASCII art"
    summary = "Draws a picture with characters, as a picture and as a text file."
    description = (
        "Choose how many **columns** wide it is and which **characters** draw it: they are sorted by the ink "
        "each really takes. You get a PNG picture and a `.txt` file; lines in the file keep their spaces, "
        "so show it in a monospaced font."
    )
    tier = "basic"
    version = 1
    outputs = (IMAGE, OutputSpec("text", "text", "Text"))
    Params = AsciiParams

    def run(self, picture: PictureView, params: AsciiParams, context: Context) -> Result:
        # The drawn picture does not depend on the pixels' number, so a preview needs no scaling.
        columns, rows, height = _plan_grid(picture, params)
        signs = _choose_signs(params)
        atlas = context.keep(
            ("ascii", signs, height), lambda: build_atlas(signs, height), lambda made: made.glyphs.nbytes
        )
        tones = np.asarray(picture.reduced_gray(columns, rows).resize((columns, rows), Image.Resampling.BOX))
        table = match_ink(atlas.ink, inverted=params.inverted)
        indices = table[stretch_tones(tones) if params.stretch else tones]
        if params.colored:
            cells = picture.reduced(columns, rows).resize((columns, rows), Image.Resampling.BOX)
            image = _tint(_lay(indices, atlas.glyphs), cells, inverted=params.inverted)
        else:
            image = _draw_gray(indices, atlas, inverted=params.inverted)
        text = write_text(indices, atlas.signs)
        return Result(image=image, format="PNG", texts={"text": text}, scale=1.0)


def _plan_grid(picture: PictureView, params: AsciiParams) -> tuple[int, int, int]:
    """Columns, rows and the height of a character in pixels."""
    wide = _measure_width(params.size) / params.size
    rows = round(params.columns * picture.height / picture.width * wide)
    rows = min(_MOST_ROWS, max(1, rows))
    return params.columns, rows, min(params.size, _MOST_SIDE // rows)


def _choose_signs(params: AsciiParams) -> str:
    return params.custom if params.characters == "custom" else _SETS[params.characters]


def build_atlas(signs: str, height: int) -> Atlas:
    """Draw each different character once and sort them by ink. Characters are `height` pixels high."""
    different = list(dict.fromkeys(signs))
    width = _measure_width(height)
    font = ImageFont.load_default(height * 0.82)
    glyphs = np.stack([_draw_glyph(sign, font, width, height) for sign in different])
    order = np.argsort(glyphs.mean(axis=(1, 2)), kind="stable")
    return Atlas(tuple(different[index] for index in order), glyphs[order])


def match_ink(ink: NDArray[np.float64], *, inverted: bool) -> NDArray[np.uint8]:
    """For each tone 0..255 the index of the character whose ink is nearest to what the tone asks for."""
    tones = np.arange(256) / 255
    wanted = tones if inverted else 1 - tones
    return np.asarray(np.searchsorted((ink[1:] + ink[:-1]) / 2, wanted), dtype=np.uint8)


def stretch_tones(tones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spread what lies between the 1st and 99th percentile over 0..255; flat pictures stay as they are."""
    low, high = np.percentile(tones, (1, 99))
    if high - low < 8:
        return tones
    spread = (tones.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(spread, 0, 255), dtype=np.uint8)


def write_text(indices: NDArray[np.uint8], signs: tuple[str, ...]) -> str:
    """Lines of characters, each ended by a newline. `indices` is (rows, columns)."""
    lines = np.array(signs)[indices]
    return "".join("".join(line) + "\n" for line in lines)


def _measure_width(height: int) -> int:
    return max(1, round(height * 0.55))


def _draw_glyph(
    sign: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, height: int
) -> NDArray[np.uint8]:
    """One character in its cell. The built-in face is proportional: what is too wide is squeezed."""
    if sign in _SHADES:
        return np.full((height, width), round(255 * _SHADES[sign]), dtype=np.uint8)
    natural = max(width, round(font.getlength(sign)) + 2)
    canvas = Image.new("L", (natural, height))
    ImageDraw.Draw(canvas).text((natural / 2, height * 0.77), sign, fill=255, font=font, anchor="ms")
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def _lay(indices: NDArray[np.uint8], glyphs: NDArray[np.uint8]) -> Image.Image:
    """Lay the glyphs out, mode L. `indices` is (rows, columns)."""
    rows, columns = indices.shape
    _, height, width = glyphs.shape
    laid = glyphs[indices].transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return Image.fromarray(laid)


def _draw_gray(indices: NDArray[np.uint8], atlas: Atlas, *, inverted: bool) -> Image.Image:
    """Dark on white or light on black. Sixteen grays are plenty for the rims of letters: half the file."""
    image = _lay(indices, atlas.glyphs // np.uint8(16))
    ramp = range(0, 256, 17) if inverted else range(255, -1, -17)
    image.putpalette([code for gray in ramp for code in (gray, gray, gray)])
    return image


def _tint(ink: Image.Image, cells: Image.Image, *, inverted: bool) -> Image.Image:
    """Give the ink of each cell its cell's mean color."""
    ground = Image.new("RGB", ink.size, (0, 0, 0) if inverted else (255, 255, 255))
    return Image.composite(cells.resize(ink.size, Image.Resampling.NEAREST), ground, ink)
