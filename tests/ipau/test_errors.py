"""Tests of error titles: each status has one title, whichever part of the site sends the error."""

import json

import pytest
from django.test import Client

from ipau.common import errors
from ipau.common.errors import title_of
from ipau.web.refusals import refusal_body


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 429, 503, 504])
def test_a_status_of_a_domain_error_has_its_title(status: int) -> None:
    kinds = [kind for kind in vars(errors).values() if getattr(kind, "status", None) == status]
    assert {kind.title for kind in kinds} == {title_of(status)}
    _, body = refusal_body(status, "Too slow.", b"/v1/files")
    assert json.loads(body)["title"] == title_of(status)


def test_other_titles_are_phrases_in_sentence_case() -> None:
    assert title_of(405) == "Method not allowed"
    assert title_of(505) == "HTTP version not supported"


@pytest.mark.django_db
def test_pages_and_problems_have_the_same_title(client: Client) -> None:
    assert client.get("/v1/nothing").json()["title"] == "Not found"
    assert "Not found" in client.get("/nothing/").content.decode()
