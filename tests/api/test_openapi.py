"""The OpenAPI schema: valid, complete and served by the site."""

import io
import json
from contextlib import redirect_stderr
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.api.routes import all_routes
from workers import registry


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    complaints = io.StringIO()
    with redirect_stderr(complaints):
        found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    assert complaints.getvalue() == ""
    assert not GENERATOR_STATS
    return found


def operations(description: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    paths = description["paths"].items()
    return [(f"{method} {path}", found) for path, methods in paths for method, found in methods.items()]


def test_it_is_valid(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1")
    validate_schema(description)


def test_a_second_validator_agrees(description: dict[str, Any]) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(json.loads(json.dumps(description, default=str)))


def test_it_has_every_route(description: dict[str, Any]) -> None:
    for route in all_routes():
        path = route.path(**{name: f"{{{name}}}" for name in route.parameters})
        wanted = {method for method in route.methods if method != "query"}
        assert wanted == set(description["paths"][path])


def test_every_operation_describes_its_input_and_errors(description: dict[str, Any]) -> None:
    schemes = description["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    for name, operation in operations(description):
        assert operation["summary"], name
        assert {"bearer": []} in operation["security"], name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
        failures = {s: r for s, r in operation["responses"].items() if s >= "400"}
        assert {"401", "403"} <= set(failures), name
        assert all("Problem" in failure["$ref"] for failure in failures.values()), name
    problems = description["components"]["responses"].values()
    assert {kind for problem in problems for kind in problem["content"]} == {"application/problem+json"}


def test_every_app_is_in_it_with_its_parameters(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    inputs = schemas["PredictionInputRequest"]["properties"]["input"]["anyOf"]
    for operation in registry.all_operations():
        name = f"{operation.key.capitalize()}Input"
        params = set(operation.Params.model_fields)
        assert set(schemas[name]["properties"]) == {"image", *params}
        assert {"$ref": f"#/components/schemas/{name}"} in inputs
        preview = description["paths"][f"/v1/preview/{operation.key}"]["post"]
        form = preview["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        assert set(form) == {"image", *params}
        assert all(field.get("description") for field in form.values())


@pytest.mark.django_db
def test_it_is_public_and_in_one_language() -> None:
    answer = Client().get("/v1/openapi.json", headers={"Accept-Language": "fr"})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["info"]["title"] == "IPAU API"
