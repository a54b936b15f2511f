"""Create the cover images of built-in apps and demo models, and the example of the start page.

The files are committed. Run this script again after adding or changing an operation or a model.
Covers of apps show the sample image. Covers of models show one of the model's own images, or the sample if
the model works on photos. The sample is Chelsea the cat, a photo by Stéfan van der Walt, licensed under CC0.
"""

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from workers import engine, registry  # noqa: E402  (needs the path above)
from workers.bundle import FolderModel  # noqa: E402
from workers.plugin import Context  # noqa: E402
from workers.recipe import Recipe  # noqa: E402
from workers.vision.draw import draw_title, label  # noqa: E402

SAMPLE = ROOT / "processing" / "static" / "processing" / "sample.jpg"
PROOF = SAMPLE.with_name("proof.jpg")
COVERS = ROOT / "market" / "static" / "market" / "covers"
SIZE = (720, 480)
# Parameters with a visible effect at the size of a card.
SETTINGS: dict[str, dict[str, Any]] = {
    "blackwhite": {"contrast": 25},
    "ascii": {"columns": 84, "size": 14},
    "pixelart": {"block": 20, "colors": 10},
    "mosaic": {"tile": 24, "color_match": 70},
}
PROOF_OF = "pixelart"
MODELS = ROOT / "deploy" / "demo_models"
# Images for the covers of these models. The others use their first image.
PICTURES = {
    "shapes-detector": "shapes-detector/shapes-detector-6.jpg",
    "shapes-segmenter": "shapes-detector/shapes-detector-6.jpg",
}
# Part of the sample for models that enlarge. It is small, so that the difference is visible.
EYE = (186, 126, 366, 246)


def main() -> None:
    """Write one cover for each operation and model, and the example of the start page."""
    photo = SAMPLE.read_bytes()
    before = _fit(Image.open(io.BytesIO(photo)))
    COVERS.mkdir(parents=True, exist_ok=True)
    for operation in registry.all_operations():
        after = _fit(_run(operation.key, photo))
        _divide(before, after).save(COVERS / f"{operation.key}.jpg", quality=84, optimize=True)
    for folder in sorted(path for path in MODELS.iterdir() if path.is_dir()):
        _cover_model(folder, photo).save(COVERS / f"{folder.name}.jpg", quality=84, optimize=True)
    _run(PROOF_OF, photo).convert("RGB").save(PROOF, quality=90, optimize=True)


def _run(key: str, photo: bytes) -> Image.Image:
    outcome = engine.run(Recipe.single(key, SETTINGS.get(key)), photo, with_thumbnail=False)
    return Image.open(io.BytesIO(outcome.files[0].data))


def _cover_model(folder: Path, photo: bytes) -> Image.Image:
    model = FolderModel(folder / "model")
    task = model.facts["task"]
    own = MODELS / PICTURES.get(folder.name, f"{folder.name}/{folder.name}-1.jpg")
    before = Image.open(io.BytesIO(photo) if task == "image" else own).convert("RGB")
    if task == "classify":
        data: Any = _run_model(model, before).data
        best = data["predictions"][0]
        # Draw the text on a small image, so that it is readable on a card.
        small = _crop(before).resize((SIZE[0] // 2, SIZE[1] // 2))
        return _fit(draw_title(small, label(best["class"], best["confidence"]), best["class_id"]))
    before = _crop(before)
    if model.facts.get("scale", 1) > 1:
        before = before.crop(EYE)
    after = _fit(Image.open(io.BytesIO(_run_model(model, before).files[0].data)))
    return _divide(_fit(before), after) if task == "image" else after


def _run_model(model: FolderModel, picture: Image.Image) -> engine.RecipeResult:
    recipe = Recipe.single(model.facts["family"], weights=model.key)
    context = Context(models={model.key: model})
    return engine.run(recipe, _bytes(picture), context, with_thumbnail=False)


def _crop(image: Image.Image) -> Image.Image:
    """Crop the center of an image to the size of a cover."""
    return ImageOps.fit(image, SIZE, Image.Resampling.LANCZOS)


def _bytes(image: Image.Image) -> bytes:
    with io.BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


def _fit(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def _divide(before: Image.Image, after: Image.Image) -> Image.Image:
    """Return a cover with the original left of a slanted line and the result right of it."""
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
