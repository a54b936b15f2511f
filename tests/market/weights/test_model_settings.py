"""Pages and API offer only the parameters that apply to a model."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from tests.factories import UserFactory
from tests.market import factories
from workers import registry
from workers.plugin import Params, choice, slider, toggle

pytestmark = pytest.mark.django_db


class PickyParams(Params):
    confidence: float = slider(0.25, ge=0, le=1, step=0.05, title="Confidence", help="The least that counts.")
    outline: bool = toggle(True, title="Outline", help="For models that know outlines.")


class Picky(factories.Marks):
    Params = PickyParams

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("confidence", "outline") if facts["task"] == "segment" else ("confidence",)


def test_a_version_has_the_parameters_that_its_family_returns() -> None:
    owner = UserFactory()
    with registry.register(Picky()):
        detector = factories.model(owner, "detector")
        segmenter = factories.model(owner, "segmenter", sure=(80, 30), task="segment")
    assert list(detector.params_schema["properties"]) == ["confidence"]
    assert set(segmenter.params_schema["properties"]) == {"confidence", "outline"}


def test_the_default_is_all_parameters() -> None:
    with factories.marks():
        version = factories.model(UserFactory())
    assert set(version.params_schema["properties"]) == set(factories.MarksParams.model_fields)


class ChoosyParams(Params):
    result: Literal["draw", "blur", "data"] = choice(
        "draw",
        labels={"draw": "Draw", "blur": "Blur", "data": "Data only"},
        title="Result",
        help="What is made of it.",
    )
    outline: bool = toggle(True, title="Outline", help="For models that know outlines.")
    line: int = slider(
        0, ge=0, le=9, title="Line", help="Its width.", show_if={"result": ["draw"], "outline": [True]}
    )


class Choosy(factories.Marks):
    Params = ChoosyParams

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("result", "line")

    def choices_for(self, facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        return {"result": ("draw", "data")}


def test_a_version_has_the_choices_that_its_family_returns() -> None:
    with registry.register(Choosy()):
        properties = factories.model(UserFactory()).params_schema["properties"]
    assert properties["result"]["enum"] == ["draw", "data"]
    assert properties["line"]["show_if"] == {"result": ["draw"]}
