"""Pages and runs of pipelines with models: editor, search, prices, missing models."""

import re
from collections.abc import Callable, Iterator

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from ipau.common.errors import Invalid
from market.listings import services
from market.models import Listing, Visibility
from market.pipelines import services as pipelines
from processing.jobs.job_spec import Terms
from processing.models import Item, State
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.pipelines.test_model_steps import GREY, keep, step_of
from tests.processing.factories import submit_version, take_turns

pytestmark = pytest.mark.django_db
NEW = "/pipelines/new/"


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


def html(answer: HttpResponse) -> str:
    return answer.content.decode()


def steps_in(page: str) -> list[str]:
    return re.findall(r'name="step" value="([^"]+)"', page)


def test_a_model_is_added_and_saved_without_javascript(client: Client, user: User) -> None:
    finder = model(user)
    address = f"{user.handle}/finder"
    assert f'value="add:{address}"' in html(client.get(NEW))
    page = html(client.post(NEW, {"do": f"add:{address}", "step": "s1:blackwhite", "title": "Two"}))
    assert steps_in(page) == ["s1:blackwhite", f"s2:{address}@1"]
    assert "Finder added." in page
    assert "version 1." in page
    sent = {"step": ["s1:blackwhite", f"s2:{address}@1"], "title": "Two", "s2.confidence": "0.5"}
    assert client.post(NEW, {**sent, "do": "save"}).status_code == 302
    version = services.latest_version(Listing.objects.select_related("owner").get(name="two"))
    assert version.recipe["steps"][1]["weights"] == finder.weights.digest
    assert version.recipe["steps"][1]["params"] == {"confidence": 0.5}
    # A new release of the model does not change the pipeline, even if it is saved again.
    model(user, sure=(10, 5))
    page = html(client.get("/pipelines/two/"))
    assert steps_in(page) == ["s1:blackwhite", f"s2:{address}@1"]
    assert "Black and white → Finder" in html(client.get("/pipelines/"))


def test_errors_are_shown_at_the_step_of_the_model(client: Client, user: User) -> None:
    model(user)
    sent = {"step": f"s4:{user.handle}/finder@1", "title": "Two", "s4.confidence": "7"}
    answer = client.post(NEW, sent)
    assert answer.status_code == 422
    assert re.search(r'data-error-for="s4.confidence"[^>]*>Confidence must be at most 1\.', html(answer))


@pytest.mark.parametrize("chosen", ["ghost/none", "/", "a/b/c", "x/\0"])
def test_an_unknown_model_is_not_added(chosen: str, client: Client, user: User) -> None:
    answer = client.post(NEW, {"do": "add", "app": chosen, "step": "s1:blackwhite", "title": "Two"})
    assert answer.status_code == 422
    assert re.search("The model “.*” does not exist", html(answer))
    assert steps_in(html(answer)) == ["s1:blackwhite"]


def offered(page: str) -> list[str]:
    return re.findall(r'value="add:([^"]+)"', page)


def test_search_without_javascript_keeps_the_draft(client: Client, user: User, other_user: User) -> None:
    model(user)
    model(other_user, "other", publish=True)
    sent = {"step": ["s1:pixelart"], "s1.block": "33", "title": "Half a <title>"}
    page = html(client.post(NEW, {**sent, "do": "find", "find": f"{other_user.handle}/ot"}))
    assert offered(page) == [f"{other_user.handle}/other"]
    assert steps_in(page) == ["s1:pixelart"]
    assert re.search(r'name="s1\.block"[^>]*value="33"', page)
    assert 'value="Half a &lt;title&gt;"' in page
    assert f'value="{other_user.handle}/ot"' in page
    page = html(client.post(NEW, {**sent, "do": "find", "find": "no such\0"}))
    assert offered(page) == []
    assert "No model that you can use has this" in page
    # The Enter key presses the first button of the form, which also searches.
    page = html(client.post(NEW, {"do": "preview", "find": "finder"}))
    assert offered(page) == [f"{user.handle}/finder"]


def test_search_with_htmx_returns_only_models(
    client: Client, user: User, other_user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    model(user)
    model(user, "mine")
    model(other_user, "other", publish=True)
    model(other_user, "hidden")
    theirs = f"{other_user.handle}/other"
    body = {"find": "", "step": [f"s1:{theirs}@1", "s2:blackwhite", "nonsense", f"s3:{theirs}@1"]}
    with django_assert_num_queries(3):  # session, person, models
        page = html(client.get("/pipelines/find/models/", body))
    assert offered(page) == [theirs, f"{user.handle}/mine", f"{user.handle}/finder"]
    assert page.count("In this pipeline") == 1
    assert page.count("Yours") == 2
    assert re.search(r'id="steps-said"[^>]*>3 models found\.</p>', page)
    assert "<html" not in page
    assert Client().get("/pipelines/find/models/").status_code == 302


def test_the_picker_needs_a_constant_number_of_queries(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    model(user)
    client.get(NEW)
    with django_assert_num_queries(12, exact=False) as one:
        client.get(NEW)
    for number in range(5):
        model(user, f"more-{number}")
    with django_assert_num_queries(len(one)):
        client.get(NEW)


def test_the_editor_needs_a_constant_number_of_queries(
    client: Client, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    model(user)
    model(user, sure=(10, 5))
    steps = [f"s{number}:{user.handle}/finder@{1 + number % 2}" for number in range(1, 9)]
    steps += ["s20:ghost/none@1"]
    for sent in ({"do": "order"}, {"do": "save", "title": "Two"}):
        client.post(NEW, {**sent, "step": steps[-2:]})
        with django_assert_num_queries(16, exact=False) as few:
            page = html(client.post(NEW, {**sent, "step": steps[-2:]}))
        with django_assert_num_queries(len(few)):
            page = html(client.post(NEW, {**sent, "step": steps}))
        assert steps_in(page) == steps
        assert page.count("is not available") == 1


def test_a_model_is_added_to_a_pipeline_from_its_page(client: Client, user: User) -> None:
    model(user)
    address = f"{user.handle}/finder"
    assert f'href="/pipelines/?add={address}"' in html(client.get(f"/apps/{address}/"))
    keep(user, GREY)
    offered = html(client.get(f"/pipelines/?add={address}&confidence=0.75"))
    assert f"/pipelines/two/?add={user.handle}%2Ffinder&amp;confidence=0.75" in offered
    page = html(client.get(f"{NEW}?add={address}&confidence=0.75"))
    assert steps_in(page) == [f"s1:{address}@1"]
    assert re.search(r'name="s1\.confidence"\s+value="0\.75"', page)


def test_two_models_return_data_of_both(user: User) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(80, 5))
    version = keep(user, GREY, step_of(one), step_of(two, confidence=0.5))
    job = submit_version(user, version, [upload(user)])
    take_turns(user)
    item = Item.objects.get(job=job)
    assert item.state == State.SUCCEEDED, item.error
    data = {
        name: [(p["class"], p["confidence"]) for p in found["predictions"]]
        for name, found in item.output.items()
    }
    assert data == {"marks": [("cat", 0.9), ("dog", 0.4)], "marks2": [("cat", 0.8)]}
    assert set(item.outputs.values_list("label", flat=True)) == {"image", "detections", "detections2"}


def test_the_api_returns_data_of_both_by_label(user: User, api: Callable[..., APIClient]) -> None:
    keep(user, step_of(model(user, "one")), step_of(model(user, "two", sure=(80, 5)), confidence=0.5))
    client, picture = api(user), upload(user)
    body = {"input": {"image": str(picture.pk)}}
    prediction = client.post(f"/v1/models/{user.handle}/two-2/predictions", body, format="json").json()
    take_turns(user)
    output = client.get(f"/v1/predictions/{prediction['id']}").json()["output"]
    assert set(output) == {"image", "detections", "detections2"}
    assert [len(output[label]["predictions"]) for label in ("detections", "detections2")] == [2, 1]


def test_the_price_of_a_pipeline_is_the_sum_of_its_models(user: User, client: Client) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(80, 5))
    Listing.objects.filter(pk=one.listing_id).update(price_each=1500)
    Listing.objects.filter(pk=two.listing_id).update(price_each=200)
    version = keep(user, step_of(one), step_of(two), step_of(two), GREY)
    Listing.objects.filter(pk=version.listing_id).update(price_each=30)
    version = services.latest_version(Listing.objects.select_related("owner").get(pk=version.listing_id))
    job = submit_version(user, version, [upload(user)])
    assert job.price_each == 1500 + 200 + 200 + 30
    with pytest.raises(Invalid, match="more than your limit"):
        submit_version(user, version, [upload(user, "b.jpg", seed=2)], terms=Terms(max_price=1900))
    assert "Maximum price" in html(client.get(f"/apps/{user.handle}/two-2/"))


def test_a_pipeline_with_a_missing_model_says_so(client: Client, user: User, other_user: User) -> None:
    finder = model(other_user, publish=True)
    version = keep(user, GREY, step_of(finder))
    Listing.objects.filter(pk=finder.listing_id).update(visibility=Visibility.PRIVATE)
    sentence = "Step 2 runs the model “Finder”, which is no longer available"
    page = client.get(f"/apps/{user.handle}/two/")
    assert page.status_code == 200
    assert sentence in html(page)
    picture = upload(user)
    with pytest.raises(Invalid, match=sentence):
        submit_version(user, services.latest_version(version.listing), [picture])
    run = client.post(f"/apps/{user.handle}/two/run/", {"file": str(picture.pk)})
    assert run.status_code == 422
    assert sentence in html(run)
    # The editor opens, names the missing model, and saves the other steps.
    page = html(client.get("/pipelines/two/"))
    assert "is not available: its owner deleted it or made it private. Remove the step" in page
    steps = steps_in(page)
    saved = client.post("/pipelines/two/", {"step": steps, "title": "Two", "do": "save"})
    assert saved.status_code == 422
    assert "Step 2: there is no version 1 of the model" in html(saved)
    assert (
        client.post("/pipelines/two/", {"step": steps[:1], "title": "Two", "do": "save"}).status_code == 302
    )


def test_other_accounts_need_access_to_the_models_of_a_pipeline(
    client: Client, user: User, other_user: User
) -> None:
    finder = model(other_user, publish=True)
    pipelines.create_pipeline(
        owner=other_user, title="Two", steps=[step_of(finder)], visibility=Visibility.PUBLIC
    )
    version = services.get_latest_version(user=user, owner=other_user.handle, name="two")
    submit_version(user, version, [upload(user)])
    Listing.objects.filter(pk=finder.listing_id).update(visibility=Visibility.PRIVATE)
    version = services.get_latest_version(user=user, owner=other_user.handle, name="two")
    with pytest.raises(Invalid, match="no longer available"):
        submit_version(user, version, [upload(user, "b.jpg", seed=2)])
    # Its owner still sees the model.
    submit_version(other_user, version, [upload(other_user)])
