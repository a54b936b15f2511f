"""Contract tests for all registered operations. New ones are included automatically."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import Folder, decode, draw, encode, kinds, lay_down, pixels, with_exif
from workers import engine, registry
from workers.media.picture import Picture
from workers.plugin import Context, Operation
from workers.recipe import Recipe

OPERATIONS = registry.all_operations()
KINDS = kinds()
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.key)


def run(operation: Operation[Any], data: bytes, **params: object) -> engine.RecipeResult:
    return engine.run(Recipe.single(operation.key, params), data, _context(operation))


def _context(operation: Operation[Any]) -> Context:
    folder = Folder([encode(draw(40, 30, seed), "JPEG") for seed in range(12)])
    return Context(pictures=dict.fromkeys(operation.folders(), folder))


def _picture_of(outcome: engine.RecipeResult) -> Image.Image:
    return decode(next(file.data for file in outcome.files if file.label == "image"))


def _variants(operation: Operation[Any]) -> list[dict[str, Any]]:
    """Return the defaults, each choice and toggle, and both ends of each slider."""
    variants: list[dict[str, Any]] = [{}]
    for name, field in operation.schema()["properties"].items():
        if field["widget"] == "toggle":
            values: list[Any] = [not field["default"]]
        elif field["widget"] == "choice":
            values = [value for value in field["enum"] if value != field["default"]]
        elif field["widget"] == "slider":
            values = [field["minimum"], field["maximum"]]
        else:
            values = []
        variants += [_shown(field) | {name: value} for value in values]
    return variants


def _shown(field: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with which this one has an effect."""
    return {name: values[0] for name, values in field.get("show_if", {}).items()}


# --- What it says of itself.


@every_operation
def test_it_describes_itself(operation: Operation[Any]) -> None:
    assert operation.title
    assert len(operation.title) < 40
    assert operation.summary.endswith(".")
    assert operation.summary.count(".") == 1
    assert len(operation.description) > 40
    assert operation.tier in ("basic", "advanced")
    assert operation.queue in ("cpu", "gpu")
    assert operation.version >= 1
    assert len({output.label for output in operation.outputs}) == len(operation.outputs) > 0
    assert all(output.title for output in operation.outputs)


@every_operation
def test_each_setting_is_fully_declared(operation: Operation[Any]) -> None:
    schema = operation.schema()
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field["title"], name
        assert field["description"].endswith("."), name
        assert "default" in field, name
        _check_widget(name, field)
        _check_show_if(schema["properties"], field)


def _check_widget(name: str, field: dict[str, Any]) -> None:
    widget = field["widget"]
    assert widget in ("slider", "choice", "toggle", "text", "color", "folder"), name
    if widget == "slider":
        number = _number(field)
        offered = field["examples"][0] if field["default"] == "auto" else field["default"]
        assert number["minimum"] <= offered <= number["maximum"], name
        assert field["step"] > 0, name
    if widget == "choice":
        assert set(field["enum_labels"]) == set(field["enum"]), name
        assert all(field["enum_labels"].values()), name
    if widget == "toggle":
        assert field["type"] == "boolean", name
    if widget == "text":
        assert field["maxLength"] > 0, name
    if widget == "folder":
        assert field["format"] == "folder", name
        assert field["default"] is None, name


def _number(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the bounds of a slider. For a number or "auto", it is the part of the number."""
    return next((part for part in field.get("anyOf", ()) if "minimum" in part), field)


def _check_show_if(fields: dict[str, Any], field: dict[str, Any]) -> None:
    for other, values in field.get("show_if", {}).items():
        for value in values:
            assert value in fields[other].get("enum", [True, False])


@every_operation
def test_defaults_are_valid_and_frozen(operation: Operation[Any]) -> None:
    params = registry.validate(operation.key, {})
    again = registry.validate(operation.key, params.model_dump())
    assert params == again
    with pytest.raises(ValueError, match="frozen"):
        setattr(params, next(iter(type(params).model_fields)), None)


@every_operation
def test_form_strings_are_parsed(operation: Operation[Any]) -> None:
    params = registry.validate(operation.key, {})
    strings = {
        name: {True: "on", False: "off", None: ""}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
        for name, value in params.model_dump().items()
    }
    assert registry.validate(operation.key, strings) == params


@every_operation
def test_bounds_are_enforced_with_sentences(operation: Operation[Any]) -> None:
    for name, field in operation.schema()["properties"].items():
        number = _number(field)
        wrong: list[Any] = {
            "slider": [
                number.get("minimum", 0) - 1,
                number.get("maximum", 0) + 1,
                "many",
                None,
                float("nan"),
            ],
            "choice": ["no such thing", 7],
            "toggle": ["perhaps", 17],
            "text": ["x" * (field.get("maxLength", 0) + 1)],
            "color": ["red"],
            "folder": ["x" * 100],
        }[field["widget"]]
        for value in wrong:
            with pytest.raises(registry.ParamsInvalid) as caught:
                registry.validate(operation.key, {name: value})
            sentence = caught.value.errors[name]
            assert sentence.endswith("."), sentence
            assert "input" not in sentence.lower(), sentence
            assert "%(" not in sentence


@every_operation
def test_unknown_settings_are_refused(operation: Operation[Any]) -> None:
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate(operation.key, {"no_such_setting": 1})
    assert caught.value.errors == {"no_such_setting": "There is no parameter “no_such_setting”."}


# --- What it does.


@every_operation
@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_on_every_kind_of_picture(operation: Operation[Any], kind: str) -> None:
    outcome = run(operation, KINDS[kind])
    image = _picture_of(outcome)
    assert image.size == (outcome.width, outcome.height)
    assert outcome.thumbnail is not None
    assert max(decode(outcome.thumbnail).size) <= 256
    assert {file.label for file in outcome.files} <= {output.label for output in operation.outputs}
    assert all(milliseconds >= 0 for milliseconds in outcome.timings.values())


@every_operation
def test_every_setting_runs_and_gives_the_same_twice(operation: Operation[Any]) -> None:
    data = encode(draw(130, 90), "JPEG")
    for variant in _variants(operation):
        first, second = run(operation, data, **variant), run(operation, data, **variant)
        assert [file.data for file in first.files] == [file.data for file in second.files], variant


@every_operation
def test_each_setting_changes_something(operation: Operation[Any]) -> None:
    """A slider's end or another choice that leaves every byte as it was is a setting nobody reads."""
    data = encode(draw(300, 220), "PNG")
    for name, field in operation.schema()["properties"].items():
        if field["widget"] not in ("slider", "choice", "toggle"):
            continue
        base = _shown(field)
        options = [variant for variant in _variants(operation) if name in variant]
        plain = [file.data for file in run(operation, data, **base).files]
        changed = [[file.data for file in run(operation, data, **(base | one)).files] for one in options]
        assert any(one != plain for one in changed), name


@every_operation
def test_what_it_says_to_keep_is_where_it_was(operation: Operation[Any]) -> None:
    """The picture's one light quarter is the result's lightest, at the picture's shape."""
    for variant in _variants(operation):
        kept = operation.keeps(registry.validate(operation.key, variant), {})
        assert kept != "picture"
        for corner in range(4) if kept == "places" else ():
            left, top = (corner % 2) * 350, (corner // 2) * 250
            source = Image.new("RGB", (700, 500), (30, 40, 20))
            source.paste((240, 230, 220), (left, top, left + 350, top + 250))
            made = _picture_of(run(operation, encode(source, "PNG"), **variant)).convert("L")
            assert made.width * source.height == made.height * source.width, variant
            quarters = made.resize((2, 2), Image.Resampling.BOX).tobytes()
            if max(quarters) > min(quarters) + 10:
                assert quarters.index(max(quarters)) == corner, variant


@every_operation
@pytest.mark.parametrize("orientation", range(1, 9))
def test_results_are_upright(operation: Operation[Any], orientation: int) -> None:
    upright = draw(120, 80)
    expected = _picture_of(run(operation, encode(upright, "JPEG", quality=95)))
    stored = with_exif(lay_down(upright, orientation), orientation=orientation, quality=95)
    got = _picture_of(run(operation, stored))
    assert got.size == expected.size
    apart = np.abs(_blur(got) - _blur(expected)).mean()
    turned = np.abs(_blur(got) - _blur(expected.transpose(Image.Transpose.ROTATE_180))).mean()
    assert apart < turned / 2


@every_operation
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_no_metadata_gets_out(operation: Operation[Any], format: str) -> None:
    settings = {"comment": b"SECRET-COMMENT"} if format == "JPEG" else {}
    data = with_exif(draw(), format, **settings)
    assert b"SECRET" in data
    outcome = run(operation, data)
    for blob in [file.data for file in outcome.files] + [outcome.thumbnail or b""]:
        assert b"SECRET" not in blob
        assert b"Exif" not in blob
    image = _picture_of(outcome)
    assert set(image.getexif()) & {270, 274, 34853} == set()
    assert "icc_profile" not in image.info


@every_operation
@pytest.mark.parametrize("kind", ["jpeg", "png", "png alpha", "jpeg gray"])
def test_the_picture_it_was_given_stays_as_it_was(operation: Operation[Any], kind: str) -> None:
    picture = Picture.open(KINDS[kind])
    views = [picture.rgb(), picture.rgb(flat=False), picture.gray(), picture.reduced(20, 10)]
    before = [view.tobytes() for view in views]
    for variant in _variants(operation):
        params = registry.validate(operation.key, variant)
        result = operation.run(picture, params, _context(operation))
        engine._encode(result, picture, engine.OutputOptions(), engine._Stopwatch())
    assert [view.tobytes() for view in views] == before


@every_operation
def test_a_preview_looks_like_the_result(operation: Operation[Any]) -> None:
    data = encode(draw(1500, 1000), "JPEG", quality=90)
    whole = _picture_of(run(operation, data))
    small = engine.preview(Recipe.single(operation.key), data, _context(operation), max_side=500)
    shown = _picture_of(small)
    assert max(shown.size) <= 500
    assert abs(shown.width / shown.height - whole.width / whole.height) < 0.02
    assert small.thumbnail is None
    assert np.abs(_blur(whole) - _blur(shown)).mean() < 6


@every_operation
def test_a_preview_of_a_small_picture_is_the_result(operation: Operation[Any]) -> None:
    data = encode(draw(120, 80), "PNG")
    context = _context(operation)
    shown = engine.preview(Recipe.single(operation.key), data, context, max_side=2000)
    assert np.array_equal(pixels(_picture_of(shown)), pixels(_picture_of(run(operation, data))))


@every_operation
def test_declared_outputs_are_delivered(operation: Operation[Any]) -> None:
    outcome = run(operation, KINDS["jpeg"])
    assert [file.label for file in outcome.files] == [
        output.label for output in operation.outputs if output.kind != "data"
    ]


def _blur(image: Image.Image) -> np.ndarray:
    """What is left of a picture seen from afar."""
    small = image.convert("RGB").resize((12, 8), Image.Resampling.BOX)
    return np.asarray(small).astype(float)


def test_samples_are_what_they_say() -> None:
    modes = {name: Image.open(io.BytesIO(data)).mode for name, data in KINDS.items()}
    assert modes["png 16 bit"] == "I;16"
    assert modes["jpeg cmyk"] == "CMYK"
    assert modes["png palette alpha"] == "P"
    assert modes["png gray alpha"] == "LA"
