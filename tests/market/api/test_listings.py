"""API of apps and models."""

from collections.abc import Callable

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from market.listings.io_schema import input_schema
from market.models import Listing, Version, Visibility
from workers import registry

pytestmark = pytest.mark.django_db


def test_every_app_is_listed_with_its_newest_version(
    user: User, api: Callable[..., APIClient], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = api(user)
    client.get("/v1/account")
    with django_assert_num_queries(4):  # the key, the page, the versions, chosen samples
        rows = client.get("/v1/models").json()["results"]
    assert {row["name"] for row in rows} == {operation.key for operation in registry.all_operations()}
    for row in rows:
        assert (row["owner"], row["visibility"]) == ("ipau", "public")
        schema = row["latest_version"]["openapi_schema"]["components"]["schemas"]
        params = registry.get(row["name"]).Params.model_fields
        assert set(schema["Input"]["properties"]) == {"image", *params}
        assert schema["Input"]["required"] == ["image"]
        assert "Output" in schema


def test_one_output_is_a_uri_and_several_are_an_object(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)

    def output(name: str) -> object:
        found = client.get(f"/v1/models/ipau/{name}").json()["latest_version"]["openapi_schema"]
        return found["components"]["schemas"]["Output"]

    assert output("blackwhite") == {"title": "Output", "type": "string", "format": "uri"}
    several = output("ascii")
    assert isinstance(several, dict)
    assert set(several["properties"]) == {"image", "text"}


def test_versions(user: User, api: Callable[..., APIClient]) -> None:
    listing = Listing.objects.get(owner__handle="ipau", name="ascii")
    first = listing.versions.get()
    newer = Version.objects.create(
        listing=listing,
        number=first.number + 1,
        recipe=first.recipe,
        params_schema=first.params_schema,
    )
    client = api(user)
    rows = client.get("/v1/models/ipau/ascii/versions").json()["results"]
    assert [row["id"] for row in rows] == [str(newer.pk), str(first.pk)]
    page = client.get("/v1/models/ipau/ascii/versions?limit=1").json()
    assert client.get(page["next"]).json()["results"] == rows[1:]
    assert client.get("/v1/models/ipau/ascii").json()["latest_version"]["id"] == str(newer.pk)
    assert client.get(f"/v1/models/ipau/ascii/versions/{first.pk}").json() == rows[1]
    # A version belongs to one model only.
    assert client.get(f"/v1/models/ipau/mosaic/versions/{first.pk}").status_code == 404


@pytest.mark.parametrize(
    ("words", "found"),
    [("ascii", ["ascii"]), ("CHARACTERS draw", ["ascii"]), ("", None), ("nothing like it", []), ("%", [])],
)
def test_search(words: str, found: list[str] | None, user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    for answer in (
        client.generic("QUERY", "/v1/models", words, content_type="text/plain"),
        client.get("/v1/models", {"q": words} if words else {}),
    ):
        assert answer.status_code == 200
        names = [row["name"] for row in answer.json()["results"]]
        assert names == found if found is not None else len(names) >= 4
    too_long = client.generic("QUERY", "/v1/models", "x" * 5000, content_type="text/plain")
    assert too_long.status_code == 413


def test_a_private_model_is_visible_to_its_owner_only(
    user: User, other_user: User, api: Callable[..., APIClient]
) -> None:
    Listing.objects.create(owner=user, name="mine", title="Mine", summary="…", visibility=Visibility.PRIVATE)
    mine = api(user).get("/v1/models?q=mine").json()["results"]
    assert [row["latest_version"] for row in mine] == [None]
    assert api(other_user).get("/v1/models?q=mine").json()["results"] == []


def test_references_in_a_params_schema_point_where_openapi_keeps_schemas() -> None:
    taken, definitions = input_schema(
        {
            "properties": {"point": {"$ref": "#/$defs/Point"}},
            "required": ["point"],
            "$defs": {
                "Point": {"type": "object", "properties": {"to": {"anyOf": [{"$ref": "#/$defs/Point"}]}}}
            },
        }
    )
    assert taken["properties"]["point"]["$ref"] == "#/components/schemas/Point"
    assert taken["required"] == ["image", "point"]
    inner = definitions["Point"]["properties"]["to"]["anyOf"]
    assert inner == [{"$ref": "#/components/schemas/Point"}]
