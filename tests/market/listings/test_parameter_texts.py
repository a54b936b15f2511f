"""Texts of stored parameter schemas come from the current code, and everything else stays as stored."""

from __future__ import annotations

import copy
from typing import Any

from accounts.models import User
from market.listings.io_schema import in_order, openapi_of, schema_with_current_texts
from market.models import Listing, Version
from market.pipelines.steps import schema_of
from workers import registry
from workers.recipe import Recipe, Step


def _age(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as an older release would have stored it."""
    old = copy.deepcopy(schema)
    for about in old["properties"].values():
        about["title"], about["description"] = "Old title", "Old help."
        if "enum_labels" in about:
            about["enum_labels"] = dict.fromkeys(about["enum_labels"], "Old label")
    return old


def test_an_app_has_current_titles_help_and_labels() -> None:
    schema = in_order(registry.get("blackwhite").schema())
    version = Version(
        listing=Listing(owner=User(handle="ann"), name="gray", title="Gray"),
        recipe=Recipe.single("blackwhite").model_dump(mode="json"),
        params_schema=_age(schema),
    )
    assert schema_with_current_texts(version) == schema
    assert version.params_schema == _age(schema)
    described = openapi_of(version)["components"]["schemas"]["Input"]["properties"]["contrast"]
    assert described["title"] == schema["properties"]["contrast"]["title"]


def test_a_pipeline_has_current_texts_of_each_step() -> None:
    recipe = Recipe(steps=(Step(operation="blackwhite"), Step(operation="ascii", params={"columns": 60})))
    schema = schema_of(recipe)
    version = Version(recipe=recipe.model_dump(mode="json"), params_schema=_age(schema))
    assert schema_with_current_texts(version) == schema
    assert schema["properties"]["ascii.columns"]["default"] == 60


def test_limits_choices_and_defaults_stay_as_stored() -> None:
    schema = in_order(registry.get("yolo").schema())
    old = _age(schema)
    old["properties"] = {name: old["properties"][name] for name in ("confidence", "result")}
    old["properties"]["confidence"] |= {"default": 0.4, "maximum": 0.8}
    old["properties"]["result"] |= {"enum": ["draw", "gone"], "enum_labels": {"draw": "x", "gone": "Gone"}}
    version = Version(recipe=Recipe.single("yolo").model_dump(mode="json"), params_schema=old)
    current = schema_with_current_texts(version)["properties"]
    assert list(current) == ["confidence", "result"]
    assert (current["confidence"]["default"], current["confidence"]["maximum"]) == (0.4, 0.8)
    assert current["confidence"]["title"] == "Confidence"
    assert current["result"]["enum"] == ["draw", "gone"]
    assert current["result"]["enum_labels"] == {"draw": "Annotated image", "gone": "Gone"}


def test_unknown_operations_and_parameters_keep_their_stored_texts() -> None:
    old = {"properties": {"amount": {"title": "Amount", "description": "How much.", "type": "integer"}}}
    for operation in ("gone", "ascii"):
        recipe = Recipe.single(operation).model_dump(mode="json")
        assert schema_with_current_texts(Version(recipe=recipe, params_schema=old)) == old
