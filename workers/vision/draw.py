"""Draw detections on an image: masks, boxes, keypoints and labels."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.vision.instances import Instance
from workers.vision.masks import Mask

Color = tuple[int, int, int]

FONTS = Path(__file__).parent.parent / "fonts"
_MASK_OPACITY = 0.45
_MOST_LETTERS = 40
# Hue step between classes: the golden ratio keeps neighbors distinct for any number of classes.
_GOLDEN_TURN = 0.61803398875
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# The 17 keypoints of COCO persons, and the pairs that are joined by a limb.
_PERSON = 17
_LIMBS = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
    (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
_SURE_POINT = 0.25


@dataclass(frozen=True)
class Style:
    """What to draw. `line` is the line width in pixels, at least 1."""

    boxes: bool = True
    masks: bool = True
    keypoints: bool = True
    labels: bool = True
    line: int = 2


def draw(image: Image.Image, instances: Sequence[Instance], style: Style) -> Image.Image:
    """Return a copy of an RGB image with the instances drawn on it, the most confident on top."""
    drawn = image.copy()
    behind = list(reversed(instances))
    if style.masks:
        for instance in behind:
            _draw_mask(drawn, instance)
    pen = ImageDraw.Draw(drawn)
    if style.boxes:
        for instance in behind:
            _draw_box(pen, instance, style.line)
    if style.keypoints:
        for instance in behind:
            _draw_keypoints(pen, instance, style.line)
    if style.labels:
        for instance in behind:
            _draw_label(pen, instance, drawn.size)
    return drawn


def choose_line(size: tuple[int, int], wanted: float) -> int:
    """Return the line width in pixels: `wanted`, or depending on the image size if it is 0."""
    return max(1, round(wanted)) if wanted else max(2, round(sum(size) / 2 * 0.003))


def color_of(class_id: int) -> Color:
    """Return the color of a class: bright, and different from neighboring classes."""
    hue = (0.6 + class_id * _GOLDEN_TURN) % 1
    # Groups of eight classes differ in brightness, because their hues are similar.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, (0.95, 0.8, 0.65)[class_id // 8 % 3])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_title(image: Image.Image, text: str, class_id: int) -> Image.Image:
    """Return a copy of an RGB image with a label in its upper left corner."""
    drawn = image.copy()
    _write(ImageDraw.Draw(drawn), text, (0, 0), color_of(class_id), drawn.size)
    return drawn


def paint(image: Image.Image, mask: Mask, color: Color, opacity: float = _MASK_OPACITY) -> None:
    """Blend a color over the pixels of a mask."""
    if not mask.width or not mask.height:
        return
    overlay = Image.fromarray(mask.bits().astype(np.uint8) * np.uint8(round(opacity * 255)))
    image.paste(color, mask.region, overlay)


def label(name: str, confidence: float) -> str:
    """Return the label text. Long names are cut."""
    return f"{name[:_MOST_LETTERS]} {confidence:.2f}"


def _draw_mask(image: Image.Image, instance: Instance) -> None:
    if instance.mask is not None:
        paint(image, instance.mask, color_of(instance.class_id))


def _draw_box(pen: ImageDraw.ImageDraw, instance: Instance, line: int) -> None:
    color = color_of(instance.class_id)
    if instance.turn is not None:
        corners = instance.turn.corners()
        pen.line([*corners, *corners[:2]], fill=color, width=line, joint="curve")
        return
    left, top, right, bottom = (round(edge) for edge in instance.box)
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=line)


def _draw_keypoints(pen: ImageDraw.ImageDraw, instance: Instance, line: int) -> None:
    points = instance.keypoints
    if points is None:
        return
    sure = [len(point) < 3 or bool(point[2] >= _SURE_POINT) for point in points]
    places = [(float(point[0]), float(point[1])) for point in points]
    if len(places) == _PERSON:
        for first, second in _LIMBS:
            if sure[first] and sure[second]:
                pen.line([places[first], places[second]], fill=color_of(first), width=line)
    for index, (x, y) in enumerate(places):
        if sure[index]:
            pen.circle((x, y), 1.5 * line, fill=color_of(index), outline=_WHITE)


def _draw_label(pen: ImageDraw.ImageDraw, instance: Instance, size: tuple[int, int]) -> None:
    left, top = instance.box[:2]
    text = label(instance.name, instance.confidence)
    _write(pen, text, (left, top), color_of(instance.class_id), size, above=True)


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    color: Color,
    size: tuple[int, int],
    *,
    above: bool = False,
) -> None:
    """Draw text on a background of this color, above the position if there is room, inside the image."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    font = _font(max(10, round(sum(size) / 2 * 0.018)), _font_for(text))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    margin = max(2, round((bottom - top) * 0.25))
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    x = max(0.0, min(place[0], size[0] - width))
    y = place[1] - height if above and place[1] >= height else max(0.0, min(place[1], size[1] - height))
    pen.rectangle((x, y, x + width, y + height), fill=color)
    # Rec. 601 luma: use black text on bright backgrounds.
    ink = _BLACK if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 128 else _WHITE
    pen.text((x + margin - left, y + margin - top), text, fill=ink, font=font)


@functools.lru_cache(maxsize=16)
def _font(size: int, file: str | None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(FONTS / file, size)


def _font_for(text: str) -> str | None:
    """Return the file of a font with the characters of a text; None: Pillow's default font, for ASCII."""
    if any("\u0e00" <= letter <= "\u0e7f" for letter in text):
        return "Loma.ttf"  # Thai
    return None if text.isascii() else "DejaVuSans.ttf"
