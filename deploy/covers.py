"""Make the apps' covers, and the start page's proof, with our own engine from the sample picture.

The files are committed. Run this again when an operation is new or has changed its look.
The sample is Chelsea the cat, a photograph that Stéfan van der Walt gave away under CC0.
"""

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from workers import engine, registry  # noqa: E402  (the path comes first)
from workers.recipe import Recipe  # noqa: E402

SAMPLE = ROOT / "processing" / "static" / "processing" / "sample.jpg"
PROOF = SAMPLE.with_name("proof.jpg")
COVERS = ROOT / "market" / "static" / "market" / "covers"
SIZE = (720, 480)
# Settings that show at the size of a card what an operation does.
SETTINGS: dict[str, dict[str, Any]] = {
    "blackwhite": {"contrast": 25},
    "ascii": {"columns": 84, "size": 14},
    "pixelart": {"block": 20, "colours": 10},
    "mosaic": {"tile": 24, "adaption": 70},
}
PROOF_OF = "pixelart"


def main() -> None:
    """Write one cover for each operation, and the proof."""
    photo = SAMPLE.read_bytes()
    before = _fit(Image.open(io.BytesIO(photo)))
    COVERS.mkdir(parents=True, exist_ok=True)
    for operation in registry.all_operations():
        after = _fit(_run(operation.key, photo))
        _divide(before, after).save(COVERS / f"{operation.key}.jpg", quality=84, optimize=True)
    _run(PROOF_OF, photo).convert("RGB").save(PROOF, quality=90, optimize=True)


def _run(key: str, photo: bytes) -> Image.Image:
    outcome = engine.run(Recipe.single(key, SETTINGS.get(key)), photo, with_thumbnail=False)
    return Image.open(io.BytesIO(outcome.files[0].data))


def _fit(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def _divide(before: Image.Image, after: Image.Image) -> Image.Image:
    """Show what was before at the left of a slanting line, and what came out at its right."""
    width, height = before.size
    top, bottom = width * 0.46, width * 0.34
    mask = Image.new("L", (width * 2, height * 2), 255)
    draw = ImageDraw.Draw(mask)
    draw.polygon([(0, 0), (top * 2, 0), (bottom * 2, height * 2), (0, height * 2)], fill=0)
    cover = Image.composite(after, before, mask.resize(before.size, Image.Resampling.BOX))
    ImageDraw.Draw(cover).line([(top, 0), (bottom, height)], fill="white", width=4)
    return cover


if __name__ == "__main__":
    main()
