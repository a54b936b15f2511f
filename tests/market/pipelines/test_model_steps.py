"""Models as pipeline steps: versions, permissions, and unavailable models."""

from collections.abc import Collection, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from ipau.common.errors import Conflict, Invalid
from market.listings import services
from market.listings.io_schema import outputs_of
from market.models import Listing, StepModel, Tier, Version, Visibility
from market.pipelines import services as pipelines
from market.pipelines.model_steps import (
    MODELS_OFFERED,
    ModelStep,
    check_models,
    models_of,
    offer_models,
    unavailable_models,
)
from market.weights.services import delete_model
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.processing.factories import submit_version, take_turns
from workers.recipe import Step

pytestmark = pytest.mark.django_db
GREY = Step(operation="blackwhite")


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def step_of(version: Version, number: int | None = None, **params: Any) -> ModelStep:
    return ModelStep(version.listing.owner.handle, version.listing.name, number, params)


def keep(owner: User, *steps: Step | ModelStep, **fields: Any) -> Version:
    kept = pipelines.create_pipeline(owner=owner, title="Two", steps=steps, **fields)
    return services.latest_version(kept)


def test_a_model_is_a_step_with_its_settings(user: User) -> None:
    finder = model(user)
    version = keep(user, GREY, step_of(finder, confidence=0.5))
    step = version.recipe["steps"][1]
    assert (step["operation"], step["weights"]) == ("marks", finder.weights.digest)
    assert step["params"] == {"confidence": 0.5}
    assert version.params_schema["properties"]["marks.confidence"]["default"] == 0.5
    assert [told["title"] for told in version.params_schema["x-steps"]] == ["Black and white", "Finder"]
    assert models_of(version) == {1: finder}
    assert version.listing.tier == Tier.ADVANCED
    assert [output.label for output in outputs_of(version)] == ["image", "detections"]


def test_a_step_stays_with_its_release(user: User) -> None:
    first = model(user)
    version = keep(user, step_of(first))
    second = model(user, sure=(10, 5))
    assert (first.number, second.number) == (1, 2)
    assert models_of(services.latest_version(version.listing)) == {0: first}
    for number, wanted in ((1, first), (2, second), (None, second)):
        changed = pipelines.change_pipeline(
            owner=user, name=version.listing.name, steps=[step_of(first, number)]
        )
        assert models_of(services.latest_version(changed)) == {0: wanted}
    # The step keeps the first of the three versions.
    assert Version.objects.filter(listing=version.listing).count() == 2


def test_two_models_with_the_same_weights_are_distinct(user: User, other_user: User) -> None:
    mine, theirs = model(user), model(other_user, "other", publish=True)
    assert mine.weights == theirs.weights
    version = keep(user, step_of(mine), step_of(theirs))
    assert models_of(version) == {0: mine, 1: theirs}
    assert list(version.params_schema["properties"]) == ["marks.confidence", "marks2.confidence"]


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("finder", 7, "Step 2: there is no version 7 of the model “{owner}/finder”."),
        ("ghost", None, "Step 2: there is no model “{owner}/ghost”."),
        ("a\0b", None, "Step 2: there is no model “{owner}/a\0b”."),
    ],
)
def test_an_unknown_model_is_named(user: User, name: str, number: int | None, text: str) -> None:
    model(user)
    with pytest.raises(Invalid) as caught:
        keep(user, GREY, ModelStep(user.handle, name, number))
    assert caught.value.message == text.format(owner=user.handle)
    assert not Listing.objects.filter(kind="pipeline").exists()


def test_a_private_model_of_another_account_is_unknown(user: User, other_user: User) -> None:
    theirs = model(other_user)
    with pytest.raises(Invalid, match="there is no model"):
        keep(user, step_of(theirs))


def test_a_model_s_digest_alone_opens_nothing(user: User, other_user: User) -> None:
    theirs = model(other_user)
    with pytest.raises(Invalid, match="there is no app “marks”"):
        keep(user, Step(operation="marks", weights=theirs.weights.digest))


def test_wrong_settings_are_named_by_the_model_s_title(user: User) -> None:
    with pytest.raises(Invalid) as caught:
        keep(user, GREY, step_of(model(user), confidence=7))
    assert caught.value.message == "Step 2, Finder: Confidence must be at most 1."
    assert set(caught.value.fields) == {"marks.confidence"}


# --- Permissions.


def test_a_pipeline_is_shared_only_with_models_that_are(user: User, other_user: User) -> None:
    finder = model(user)
    with pytest.raises(Invalid, match="Step 1: it runs a model that others cannot see") as caught:
        keep(user, step_of(finder), visibility=Visibility.PUBLIC)
    assert caught.value.code == "private_model"
    version = keep(user, step_of(finder))
    with pytest.raises(Invalid, match="others cannot see"):
        pipelines.change_pipeline(owner=user, name="two", visibility=Visibility.PUBLIC)
    Listing.objects.filter(pk=finder.listing_id).update(visibility=Visibility.PUBLIC)
    shared = pipelines.change_pipeline(owner=user, name="two", visibility=Visibility.PUBLIC)
    assert unavailable_models(user=other_user, version=services.latest_version(shared)) == {}
    assert version.listing.pk == shared.pk


HIDE: dict[str, dict[str, Any]] = {
    "private": {"visibility": Visibility.PRIVATE},
    "taken down": {"taken_down": True},
    "put away": {"archived_at": timezone.now()},
}


@pytest.mark.parametrize("change", HIDE.values(), ids=HIDE)
def test_a_model_hidden_later_is_reported(change: dict[str, Any], user: User, other_user: User) -> None:
    finder = model(other_user, publish=True)
    version = keep(user, GREY, step_of(finder))
    check_models(user=user, version=version)
    Listing.objects.filter(pk=finder.listing_id).update(**change)
    version = Version.objects.get(pk=version.pk)
    text = (
        "Step 2 runs the model “Finder”, which is no longer available: its owner deleted it "
        "or made it private."
    )
    assert unavailable_models(user=user, version=version) == {"marks": text}
    with pytest.raises(Invalid) as caught:
        check_models(user=user, version=version)
    assert (caught.value.code, caught.value.message) == ("model_gone", text)


def test_a_model_deleted_later_is_reported_and_archived(user: User, other_user: User) -> None:
    finder = model(other_user, publish=True)
    version = keep(user, step_of(finder))
    copy = pipelines.duplicate_pipeline(user=user, owner=user.handle, name="two")
    delete_model(owner=other_user, name="finder")
    for kept in (version.listing, copy):
        newest = services.latest_version(kept)
        assert models_of(newest) == {0: finder}
        with pytest.raises(Invalid, match="no longer available"):
            check_models(user=user, version=newest)
    assert StepModel.objects.count() == 2


def test_jobs_of_a_pipeline_finish_after_its_model_is_deleted(user: User) -> None:
    finder = model(user)
    job = submit_version(user, keep(user, step_of(finder)), [upload(user)])
    delete_model(owner=user, name="finder")
    take_turns(user)
    job.refresh_from_db()
    assert job.succeeded == 1


def test_a_model_without_pipelines_is_deleted(user: User) -> None:
    finder = model(user)
    keep(user, step_of(finder))
    pipelines.delete_pipeline(owner=user, name="two")
    delete_model(owner=user, name="finder")
    assert not Version.objects.filter(pk=finder.pk).exists()


def test_a_row_and_the_query_agree_on_who_sees_a_listing(user: User, other_user: User) -> None:
    """`Listing.is_visible_to` and `visible_to` give the same result."""
    for number, change in enumerate([{}, {"visibility": Visibility.PUBLIC}, *HIDE.values()]):
        made = model(user, f"m{number}", publish=True)
        Listing.objects.filter(pk=made.listing_id).update(**{"visibility": Visibility.PUBLIC, **change})
    everything = Listing.objects.all()
    for person in (user, other_user, AnonymousUser(), None):
        seen = set(everything.visible_to(person))
        assert {listing for listing in everything if listing.is_visible_to(person)} == seen
    assert 0 < everything.visible_to(None).count() < everything.visible_to(user).count() < everything.count()


def names_offered(user: User, text: str = "", chosen: Collection[str] = ()) -> list[str]:
    return [listing.name for listing in offer_models(user=user, text=text, chosen=chosen).models]


def test_offered_models_start_with_chosen_and_own_ones(user: User, other_user: User) -> None:
    model(user, "mine")
    for name in ("older", "newer"):
        model(other_user, name, publish=True)
    model(other_user, "hidden")
    unsaid = model(other_user, "unsaid", publish=True)
    Version.objects.filter(pk=unsaid.pk).update(is_confirmed=False)
    assert names_offered(user) == ["mine", "newer", "older"]
    assert names_offered(user, chosen=[f"{other_user.handle}/older", "a\0/b"]) == ["older", "mine", "newer"]
    assert names_offered(other_user)[:2] == ["unsaid", "hidden"]


def test_models_are_found_by_words_of_title_and_address(user: User, other_user: User) -> None:
    model(user, "cat-finder")
    dogs = model(other_user, "k9", publish=True)
    Listing.objects.filter(pk=dogs.listing_id).update(title="Finder of 100% dogs")
    assert names_offered(user, "FINDER") == ["cat-finder", "k9"]
    assert names_offered(user, "dogs finder") == ["k9"]
    assert names_offered(user, f"{other_user.handle}/k") == ["k9"]
    assert names_offered(user, "100%") == ["k9"]
    assert names_offered(user, "%") == ["k9"]
    assert names_offered(user, "c_t") == []
    assert names_offered(user, "cat\0") == ["cat-finder"]


def test_an_exact_address_is_found_among_many(
    user: User, other_user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    theirs = model(other_user, "cat", publish=True)
    for number in range(MODELS_OFFERED + 1):
        model(user, f"cat-{number}")
    assert offer_models(user=user).more
    assert "cat" not in names_offered(user, "cat")
    assert not offer_models(user=user, text="cat-1").more
    with django_assert_num_queries(1):
        offer = offer_models(user=user, text=f" {other_user.handle.upper()}/CAT ")
        assert [one.owner.handle for one in offer.models] == [other_user.handle]
    # The exact address comes before others that contain it.
    model(other_user, "cat-more", publish=True)
    assert names_offered(user, f"{other_user.handle}/cat") == [theirs.listing.name, "cat-more"]


def test_a_repeated_request_creates_no_second_pipeline(user: User) -> None:
    finder = model(user)
    first = pipelines.create_pipeline(
        owner=user, title="Two", steps=[step_of(finder)], idempotency_key="once"
    )
    again = pipelines.create_pipeline(
        owner=user, title="Two", steps=[step_of(finder)], idempotency_key="once"
    )
    assert first == again
    with pytest.raises(Conflict):
        pipelines.create_pipeline(
            owner=user, title="Two", steps=[step_of(finder, confidence=0.9)], idempotency_key="once"
        )


def test_pipelines_without_models_do_not_query_models(
    user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    version = keep(user, GREY)
    with django_assert_num_queries(0):
        check_models(user=user, version=version)
