"""Recipe runs: output formats, results, previews, several steps and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, kinds
from workers import engine, registry
from workers.media.picture import PictureError
from workers.plugin import OperationError
from workers.recipe import Recipe, Step

GREY = Recipe.single("blackwhite")


@pytest.mark.parametrize(
    ("format", "suffix", "content_type"),
    [
        ("JPEG", ".jpg", "image/jpeg"),
        ("PNG", ".png", "image/png"),
        ("WEBP", ".webp", "image/webp"),
        ("TIFF", ".tif", "image/tiff"),
    ],
)
def test_the_output_has_the_input_s_format(format: str, suffix: str, content_type: str) -> None:
    file = engine.run(GREY, encode(draw(), format)).files[0]
    assert (file.label, file.suffix, file.content_type) == ("image", suffix, content_type)
    assert decode(file.data).format == format
    assert (file.width, file.height) == (96, 64)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kind", ["jpeg", "png alpha", "png palette alpha", "png 16 bit"])
def test_any_output_format_can_be_chosen(format: str, kind: str) -> None:
    file = engine.run(GREY, kinds()[kind], output=engine.OutputOptions(format=format)).files[0]
    assert decode(file.data).format == format


def test_quality_changes_the_file_size() -> None:
    data = encode(draw(300, 200), "JPEG")
    sizes = [
        len(engine.run(GREY, data, output=engine.OutputOptions(quality=quality)).files[0].data)
        for quality in (40, 90)
    ]
    assert sizes[0] < sizes[1]


def test_the_thumbnail_shows_the_result() -> None:
    outcome = engine.run(GREY, encode(draw(600, 300), "JPEG"))
    assert outcome.thumbnail is not None
    shown = decode(outcome.thumbnail)
    assert shown.format == "WEBP"
    assert shown.size == (256, 128)
    assert engine.run(GREY, encode(draw(), "JPEG"), with_thumbnail=False).thumbnail is None


def test_timings_name_each_stage() -> None:
    timings = engine.run(GREY, encode(draw(800, 600), "JPEG")).timings
    assert list(timings) == ["decode", "run", "encode", "thumbnail"]
    assert timings["decode"] > 0
    assert timings["encode"] > 0


def test_a_chain_runs_in_order() -> None:
    steps = (
        Step(operation="pixelart", params={"block": 8, "palette": "gameboy"}),
        Step(
            operation="blackwhite", params={"finish": "threshold", "auto_threshold": False, "threshold": 128}
        ),
    )
    image = decode(engine.run(Recipe(steps=steps), encode(draw(), "JPEG")).files[0].data)
    assert image.mode == "1"
    assert image.format == "PNG"


def test_every_step_is_validated_before_anything_runs() -> None:
    steps = (Step(operation="blackwhite"), Step(operation="ascii", params={"columns": 9999}))
    with pytest.raises(registry.ParamsInvalid, match=r"Columns must be at most 400\."):
        engine.run(Recipe(steps=steps), b"not even a picture")


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(registry.UnknownOperation, match="no operation “sharpen”"):
        engine.validate_recipe(Recipe.single("sharpen"))


def test_a_damaged_image_raises_an_operation_error() -> None:
    recipe = Recipe.single("mosaic", {"mode": "blocks", "area": "box", "x": 0.99, "width": 0.01})
    assert engine.run(recipe, encode(draw(), "PNG")).files
    with pytest.raises(PictureError):
        engine.run(recipe, b"no")
    assert issubclass(PictureError, OperationError)


def test_the_fingerprint_depends_on_parameters_and_versions_not_spelling() -> None:
    plain = engine.fingerprint(Recipe.single("ascii", {}))
    assert plain == engine.fingerprint(Recipe.single("ascii", {"columns": "120"}))
    assert plain != engine.fingerprint(Recipe.single("ascii", {"columns": 121}))
    prints = []
    for number in (1, 1, 2):

        class Released(type(registry.get("ascii"))):  # type: ignore[misc]
            key = "released"
            version = number

        with registry.register(Released()):
            prints.append(engine.fingerprint(Recipe.single("released")))
    assert prints[0] == prints[1] != prints[2]


def test_previews_are_small_and_quick_to_send() -> None:
    data = encode(draw(2000, 1500), "JPEG", quality=95)
    outcome = engine.preview(GREY, data, max_side=512)
    assert (outcome.width, outcome.height) == (512, 384)
    assert outcome.files[0].content_type == "image/jpeg"
    assert len(outcome.files[0].data) < 60_000


def test_previews_of_transparent_images_stay_transparent() -> None:
    outcome = engine.preview(GREY, kinds()["png alpha"], max_side=50)
    assert "A" in decode(outcome.files[0].data).getbands()


def test_a_thumbnail_has_the_facts_of_its_source() -> None:
    small = engine.thumbnail(encode(draw(400, 300), "WEBP"), side=100)
    assert (small.width, small.height) == (100, 75)
    assert decode(small.data).size == (100, 75)
    assert (small.facts.format, small.facts.width, small.facts.height) == ("WEBP", 400, 300)


def test_an_image_that_does_not_fit_in_memory_is_refused_not_fatal() -> None:
    """Runs in a separate process with less address space than 36 megapixels need."""
    script = """
import io, numpy, resource
from PIL import Image
from workers import devices, engine
from workers.media.picture import PictureError
from workers.recipe import Recipe
target = io.BytesIO()
Image.new("RGB", (6000, 6000)).save(target, "PNG")
small = io.BytesIO()
Image.new("RGB", (9, 9)).save(small, "PNG")
engine.run(Recipe.single("blackwhite"), small.getvalue())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
devices.limit_memory(used + 60_000_000)
try:
    engine.run(Recipe.single("blackwhite"), target.getvalue())
except PictureError as error:
    print(error.code)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "memory", done.stderr


def test_operations_import_no_heavy_or_web_library() -> None:
    script = (
        "import sys; from workers import engine, registry; registry.discover();"
        "print([name for name in ('django', 'rest_framework', 'celery', 'psycopg', 'torch', 'cv2', "
        "'onnxruntime', 'av', 'ultralytics') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_result_of_an_operation_without_image_has_the_input_s_size() -> None:
    outcome = engine.run(GREY, encode(Image.new("L", (31, 17), 9), "PNG"))
    assert (outcome.width, outcome.height) == (31, 17)
