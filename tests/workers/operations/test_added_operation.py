"""An operation that is defined in a test runs like the built-in ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, pixels
from workers import engine, registry
from workers.plugin import Context, Operation, Params, PictureView, Result, color, slider
from workers.recipe import Recipe, Step


class TintParams(Params):
    amount: int = slider(50, ge=0, le=100, title="Amount", help="How much of the tint.", unit="%")
    tint: str = color("#ff0000", title="Tint", help="The color mixed in.")


class Tint(Operation[TintParams]):
    key = "tint"
    title = "Tint"
    summary = "Mix a color into an image."
    description = "Each pixel is moved towards the tint by the amount you choose."
    Params = TintParams
    seen: ClassVar[list[Context]] = []

    def run(self, picture: PictureView, params: TintParams, context: Context) -> Result:
        self.seen.append(context)
        image = picture.rgb()
        ground = Image.new("RGB", image.size, params.tint)
        return Result(Image.blend(image, ground, params.amount / 100), data={"amount": params.amount})


def test_it_is_found_validated_and_run() -> None:
    data = encode(draw(), "PNG")
    with registry.register(Tint()):
        assert "tint" in [operation.key for operation in registry.all_operations()]
        outcome = engine.run(Recipe.single("tint", {"amount": "100", "tint": "#00ff00"}), data)
    image = decode(outcome.files[0].data)
    assert outcome.data == {"amount": 100}
    assert outcome.files[0].content_type == "image/png"
    assert image.getcolors() == [(96 * 64, (0, 255, 0))]


def test_it_is_unregistered_afterwards() -> None:
    with registry.register(Tint()):
        pass
    with pytest.raises(registry.UnknownOperation, match="no operation “tint”"):
        registry.get("tint")


def test_it_runs_in_a_chain_with_others() -> None:
    recipe = Recipe(
        steps=(
            Step(operation="blackwhite", params={"contrast": 20}),
            Step(operation="tint", params={"amount": 30}),
            Step(operation="ascii", params={"columns": 20}),
        )
    )
    with registry.register(Tint()):
        outcome = engine.run(recipe, encode(draw(), "JPEG"))
    assert [file.label for file in outcome.files] == ["image", "text"]
    assert outcome.data == {"amount": 30}


def test_its_context_has_the_scale() -> None:
    data = encode(draw(400, 200), "JPEG")
    Tint.seen.clear()
    with registry.register(Tint()):
        engine.run(Recipe.single("tint"), data, Context(scale=0.1))
        engine.preview(Recipe.single("tint"), data, max_side=100)
    assert [context.scale for context in Tint.seen] == [1.0, 0.25]


def test_it_blends_colors() -> None:
    with registry.register(Tint()):
        outcome = engine.run(Recipe.single("tint", {"amount": 50}), encode(draw(), "PNG"))
    expected = (pixels(draw()) + np.array([255, 0, 0])) / 2
    assert np.abs(pixels(decode(outcome.files[0].data)) - expected).max() <= 1


def test_a_taken_key_is_refused() -> None:
    class Again(Tint):
        key = "ascii"

    with pytest.raises(registry.RegistrationError, match="Two operations"), registry.register(Again()):
        pass


def test_a_bad_key_is_refused() -> None:
    class Named(Tint):
        key = "Not A Key"

    with pytest.raises(registry.RegistrationError, match="is not valid"), registry.register(Named()):
        pass


def test_an_operation_without_a_title_is_refused() -> None:
    class Nameless(Operation[TintParams]):
        key = "nameless"
        Params = TintParams

        def run(self, picture: PictureView, params: TintParams, context: Context) -> Result:
            return Result()

    with pytest.raises(registry.RegistrationError, match="lacks title"), registry.register(Nameless()):
        pass
