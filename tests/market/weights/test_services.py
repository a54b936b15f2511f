"""Texts of a model: page, API and permissions."""

from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from market.models import Conversion, Listing
from market.weights.services import DESCRIPTION_LENGTH
from tests.market.factories import marks, model

pytestmark = pytest.mark.django_db
ABOUT = "/models/finder/about/"
TEXTS = {
    "title": "Street <finder>",
    "summary": "Finds cats.",
    "description": "## Limits\r\n\r\nNo **dogs**.<script>alert(1)</script>",
}


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    model(user, publish=True)
    return client_of(user)


def test_the_owner_describes_a_model_and_others_read_it(client: Client, user: User) -> None:
    answer = client.post(ABOUT, TEXTS)
    assert (answer.status_code, answer["Location"]) == (302, f"/apps/{user.handle}/finder/?tab=about")
    listing = Listing.objects.get(name="finder")
    assert (listing.title, listing.summary) == (TEXTS["title"], TEXTS["summary"])
    assert "\r" not in listing.description
    page = Client().get(f"/apps/{user.handle}/finder/").content.decode()
    for part in (
        "Street &lt;finder&gt;",
        "Finds cats.",
        "<h4>Limits</h4>",
        "<strong>dogs</strong>",
        "&lt;script&gt;",
    ):
        assert part in page, part
    assert "<script>alert" not in page
    assert ABOUT not in page
    form = client.get(ABOUT).content.decode()
    assert 'value="Street &lt;finder&gt;"' in form
    assert "No **dogs**." in form


def test_a_preview_saves_nothing(client: Client) -> None:
    page = client.post(ABOUT, {**TEXTS, "preview": "1"}).content.decode()
    assert "<strong>dogs</strong>" in page
    assert "No **dogs**." in page
    assert Listing.objects.get(name="finder").title == "Finder"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"title": " "}, "This field is required."),
        ({"title": "a" * 101}, "at most 100 characters"),
        ({"summary": "a" * 201}, "at most 200 characters"),
        ({"description": "a" * (DESCRIPTION_LENGTH + 1)}, f"at most {DESCRIPTION_LENGTH} characters"),
    ],
)
def test_errors_are_shown_and_keep_the_input(client: Client, changes: dict[str, str], sentence: str) -> None:
    answer = client.post(ABOUT, {**TEXTS, "summary": "Kept as it was.", **changes})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert "summary" in changes or 'value="Kept as it was."' in page
    assert Listing.objects.get(name="finder").title == "Finder"


def test_crlf_counts_as_one_character(client: Client) -> None:
    text = "a\r\n" * (DESCRIPTION_LENGTH // 2)
    assert client.post(ABOUT, {**TEXTS, "description": text}).status_code == 302


def test_models_of_another_account_are_404(
    client: Client, user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    stranger = client_of(other_user)
    assert stranger.get(ABOUT).status_code == 404
    assert stranger.post(ABOUT, TEXTS).status_code == 404
    assert Client().get(ABOUT)["Location"].startswith("/accounts/login/")
    assert Listing.objects.get(owner=user).title == "Finder"
    assert client.get("/models/nothing/about/").status_code == 404


def test_list_report_and_page_link_to_the_form(client: Client, user: User) -> None:
    link = f'href="{ABOUT}"'
    report = f"/models/conversions/{Conversion.objects.get().pk}/"
    page = f"/apps/{user.handle}/finder/"
    for path in ("/models/", report, page):
        assert link in client.get(path).content.decode(), path
        assert link not in Client().get(path, follow=True).content.decode(), path
    assert "This model has no description yet" in client.get(page).content.decode()
    assert "This model has no description yet" not in Client().get(page).content.decode()


def test_the_api_changes_texts(client: Client, user: User, api: Callable[..., APIClient]) -> None:
    path, mine = f"/v1/models/{user.handle}/finder", api(user)
    sent = {"title": "Street finder", "description": "Finds cats.", "readme": "# Limits\n\nNo dogs.\n"}
    answer = mine.patch(path, sent, format="json")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["title"], answer.json()["description"]) == ("Street finder", "Finds cats.")
    readme = mine.get(f"{path}/readme")
    assert (readme.content, readme["Content-Type"]) == (
        b"# Limits\n\nNo dogs.",
        "text/markdown; charset=utf-8",
    )
    assert mine.patch(path, {"description": ""}, format="json").json()["title"] == "Street finder"
    assert mine.get(f"{path}/readme").content == readme.content
    for wrong in ({"title": ""}, {"title": "a" * 101}, {"readme": "a" * 10_001}, {"summary": "Misnamed"}):
        refused = mine.patch(path, wrong, format="json")
        assert (refused.status_code, list(refused.json()["errors"])) == (422, list(wrong)), wrong


def test_the_api_lets_only_the_owner_change_texts(
    client: Client, user: User, other_user: User, api: Callable[..., APIClient]
) -> None:
    path, stranger = f"/v1/models/{user.handle}/finder", api(other_user)
    assert stranger.patch(path, {"title": "Mine"}, format="json").status_code == 404
    assert stranger.patch(path, {"nonsense": 1}, format="json").status_code == 404
    assert stranger.get(f"{path}/readme").status_code == 200
    assert api(user, ["read", "run"]).patch(path, {"title": "Mine"}, format="json").status_code == 403
    Listing.objects.update(visibility="private")
    assert stranger.get(f"{path}/readme").status_code == 404
    assert stranger.patch("/v1/models/ipau/mosaic", {"title": "Mine"}, format="json").status_code == 404
