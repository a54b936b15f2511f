"""Services of pipelines: validation, versions, sharing and deletion."""

from enum import StrEnum
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from drive.files.services import create_folder
from ipau.common.errors import Conflict, Invalid, NotFound
from market.listings import services
from market.listings.io_schema import outputs_of, values_of
from market.models import Listing, ListingKind, Tier, Version, Visibility
from market.pipelines import services as pipelines
from market.pipelines.services import change_pipeline, create_pipeline, delete_pipeline, duplicate_pipeline
from market.pipelines.steps import check_steps, schema_of
from tests.drive.factories import upload
from tests.market.pipelines.factories import pipeline, steps
from tests.processing.factories import submit_version
from workers import registry
from workers.plugin import Operation, OutputSpec, Params, Result, choice, toggle

pytestmark = pytest.mark.django_db


# --- Steps.


def test_every_parameter_has_the_author_s_value_as_default(user: User) -> None:
    listing = pipeline(
        user, ("blackwhite", {"finish": "threshold"}), "pixelart", ("blackwhite", {"threshold": 99})
    )
    version = services.latest_version(listing)
    found = version.params_schema["properties"]
    keys = ["blackwhite", "pixelart", "blackwhite2"]
    wanted = [
        f"{step}.{name}"
        for step, key in zip(keys, ("blackwhite", "pixelart", "blackwhite"), strict=True)
        for name in registry.get(key).Params.model_fields
    ]
    assert sorted(found, key=lambda name: found[name]["x-order"]) == wanted
    assert found["blackwhite.finish"]["default"] == "threshold"
    assert found["blackwhite2.threshold"]["default"] == 99
    assert found["blackwhite2.threshold"]["show_if"] == {
        "blackwhite2.finish": ["threshold"],
        "blackwhite2.auto_threshold": [False],
    }
    assert (found["blackwhite2.threshold"]["x-step"], found["blackwhite2.threshold"]["x-name"]) == (
        2,
        "threshold",
    )
    assert [one["name"] for one in version.params_schema["x-steps"]] == keys
    values = values_of(version.params_schema, version.recipe)
    assert values == {name: about["default"] for name, about in found.items()}


def test_wrong_settings_are_named_by_step() -> None:
    chain = steps("pixelart", ("blackwhite", {"contrast": 900, "color": 1}), ("pixelart", {"block": 1}))
    with pytest.raises(Invalid) as caught:
        check_steps(chain)
    assert set(caught.value.fields) == {"blackwhite.contrast", "blackwhite.color", "pixelart2.block"}
    assert caught.value.fields["blackwhite.contrast"] == "Contrast must be at most 100."
    assert "Step 2, Black and white: Contrast must be at most 100." in caught.value.message
    assert "Step 3, Pixel art: " in caught.value.message


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (0, "A pipeline needs at least one step."),
        (17, "A pipeline can have at most 16 steps. This one has 17."),
    ],
)
def test_the_number_of_steps_is_bounded(number: int, sentence: str, user: User) -> None:
    with pytest.raises(Invalid) as caught:
        create_pipeline(owner=user, title="T", steps=steps(*["blackwhite"] * number))
    assert caught.value.fields == {"steps": sentence}
    assert not Listing.objects.filter(owner=user).exists()


def test_sixteen_steps_are_accepted(user: User) -> None:
    listing = pipeline(user, *["blackwhite"] * 16)
    names = [one["name"] for one in services.latest_version(listing).params_schema["x-steps"]]
    assert names[-1] == "blackwhite16"


def test_an_unknown_app_is_named(user: User) -> None:
    with pytest.raises(Invalid) as caught:
        pipeline(user, "blackwhite", "ghost")
    assert caught.value.message == "Step 2: there is no app “ghost”."
    # A pipeline cannot be a step, so that no cycle is possible.
    listing = pipeline(user)
    with pytest.raises(Invalid, match="there is no app"):
        pipeline(user, f"{user.handle}/{listing.name}")


class WordsParams(Params):
    loud: bool = toggle(False, title="Loud", help="In capitals.")


class Words(Operation[WordsParams]):
    """Returns a text and no image."""

    key = "words"
    title = "Words"
    summary = "Says what is there."
    description = "Says what is there, for tests of what does not fit together."
    outputs = (OutputSpec("text", "text", "Text"),)
    Params = WordsParams

    def run(self, picture: Any, params: WordsParams, context: Any) -> Result:
        return Result(texts={"text": "HELLO" if params.loud else "hello"})


def test_a_text_does_not_fit_a_step_that_needs_an_image(user: User) -> None:
    with registry.register(Words()):
        with pytest.raises(Invalid) as caught:
            pipeline(user, "pixelart", "words", "blackwhite")
        sentence = "Step 3, Black and white, needs an image, but step 2, Words, returns none."
        assert caught.value.fields == {"blackwhite": sentence}
        last = pipeline(user, "pixelart", "words")
        labels = [output.label for output in outputs_of(services.latest_version(last))]
    assert labels == ["image", "text"]


def test_texts_of_two_steps_have_distinct_labels(user: User) -> None:
    version = services.latest_version(pipeline(user, "ascii", "ascii"))
    assert [output.label for output in outputs_of(version)] == ["image", "text", "text2"]


class Tone(StrEnum):
    WARM = "warm"
    COLD = "cold"


class ToneParams(Params):
    tone: Tone = choice(Tone.WARM, labels={"warm": "Warm", "cold": "Cold"}, title="Tone", help="Which.")


class Toned(Words):
    key = "toned"
    Params = ToneParams


def test_referenced_schemas_are_renamed_with_their_step() -> None:
    assert "Tone" in Toned.schema()["$defs"]
    with registry.register(Toned()):
        schema = schema_of(check_steps(steps("blackwhite", "toned")))
    assert schema["properties"]["toned.tone"]["$ref"] == "#/$defs/toned.Tone"
    assert set(schema["$defs"]) == {"toned.Tone"}


# --- Names and texts.


def test_a_name_is_derived_from_the_title_and_unique(user: User, other_user: User) -> None:
    names = [pipeline(user, title="Night  Comic!").name for _ in range(3)]
    assert names == ["night-comic", "night-comic-2", "night-comic-3"]
    assert pipeline(other_user, title="Night Comic").name == "night-comic"
    assert pipeline(user, title="ночь").name == "pipeline"
    assert pipeline(user, title="New").name == "new-2"


@pytest.mark.parametrize("name", ["new", "preview", "A", "a--b", "-a", "a/b", "a_b", "x" * 61, "a\0"])
def test_names_that_cannot_be_addresses_are_refused(name: str, user: User) -> None:
    with pytest.raises(Invalid) as caught:
        pipeline(user, name=name)
    assert set(caught.value.fields) == {"name"}


def test_a_taken_name_is_a_conflict_and_changes_nothing(user: User) -> None:
    pipeline(user, name="mine")
    other = pipeline(user, name="other")
    with pytest.raises(Conflict, match="already"):
        pipeline(user, name="mine")
    with pytest.raises(Conflict):
        change_pipeline(owner=user, name="other", new_name="mine", title="Changed")
    other.refresh_from_db()
    assert (other.name, other.title) == ("other", "Night comic")
    with pytest.raises(IntegrityError), transaction.atomic():
        Listing.objects.create(owner=user, name="mine", title="…", summary="…")


@pytest.mark.parametrize(
    "fields", [{"title": " "}, {"title": "x" * 101}, {"summary": "x" * 201}], ids=["none", "long", "summary"]
)
def test_texts_are_bounded(fields: dict[str, str], user: User) -> None:
    with pytest.raises(Invalid) as caught:
        pipeline(user, **fields)
    assert set(caught.value.fields) == set(fields)


def test_the_number_of_pipelines_is_limited(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "MOST_PIPELINES", 1)
    pipeline(user)
    with pytest.raises(Invalid, match="You have 1 pipelines"):
        pipeline(user)
    with pytest.raises(Invalid, match="You have 1 pipelines"):
        duplicate_pipeline(user=user, owner=user.handle, name="night-comic")


def test_a_repeated_request_creates_nothing(user: User, other_user: User) -> None:
    first = pipeline(user, idempotency_key="k")
    assert pipeline(user, idempotency_key="k").pk == first.pk
    assert pipeline(other_user, idempotency_key="k").pk != first.pk
    with pytest.raises(Conflict, match="a different request"):
        pipeline(user, title="Other", idempotency_key="k")
    with pytest.raises(Invalid):
        pipeline(user, idempotency_key="")
    assert Listing.objects.filter(owner=user).count() == 1


# --- Versions.


def test_new_steps_create_a_version_and_the_same_steps_none(user: User) -> None:
    listing = pipeline(user)
    change_pipeline(owner=user, name=listing.name, steps=steps("ascii"), title="Letters")
    change_pipeline(owner=user, name=listing.name, steps=steps("ascii"))
    change_pipeline(owner=user, name=listing.name, summary="Just words.")
    listing.refresh_from_db()
    assert (listing.title, listing.summary, listing.tier) == ("Letters", "Just words.", Tier.BASIC)
    assert list(listing.versions.values_list("number", flat=True)) == [2, 1]
    assert services.latest_version(listing).recipe["steps"][0]["operation"] == "ascii"


def test_jobs_keep_their_version(user: User) -> None:
    listing = pipeline(user)
    job = submit_version(user, services.latest_version(listing), [upload(user)])
    change_pipeline(owner=user, name=listing.name, steps=steps("ascii"))
    job.refresh_from_db()
    assert job.version.number == 1
    assert [step["operation"] for step in job.recipe["steps"]] == ["pixelart", "blackwhite"]


def test_wrong_steps_change_nothing(user: User) -> None:
    listing = pipeline(user)
    with pytest.raises(Invalid):
        change_pipeline(owner=user, name=listing.name, title="X", steps=steps(("ascii", {"columns": 1})))
    listing.refresh_from_db()
    assert listing.title == "Night comic"
    assert Version.objects.filter(listing=listing).count() == 1


# --- Sharing.


def test_a_pipeline_is_private_until_it_is_shared(user: User, other_user: User) -> None:
    listing = pipeline(user)
    address = {"owner": user.handle, "name": listing.name}
    assert (listing.kind, listing.visibility, listing.tier) == ("pipeline", "private", "advanced")
    with pytest.raises(NotFound):
        services.get_listing(user=other_user, **address)
    change_pipeline(owner=user, name=listing.name, visibility=Visibility.PUBLIC)
    assert services.get_listing(user=other_user, **address) == listing
    assert list(pipelines.list_shared_pipelines()) == [listing]
    with pytest.raises(NotFound):
        change_pipeline(owner=other_user, name=listing.name, title="Mine now")
    with pytest.raises(NotFound):
        delete_pipeline(owner=other_user, name=listing.name)


def test_a_pipeline_with_a_private_folder_cannot_be_shared(user: User, other_user: User) -> None:
    folder = create_folder(owner=user, parent=None, name="Tiles")
    listing = pipeline(user, "blackwhite", ("mosaic", {"tiles": str(folder.pk)}))
    with pytest.raises(Invalid) as caught:
        change_pipeline(owner=user, name=listing.name, visibility=Visibility.PUBLIC)
    assert set(caught.value.fields) == {"mosaic.tiles"}
    assert "others cannot see" in caught.value.message
    listing.refresh_from_db()
    assert listing.visibility == Visibility.PRIVATE
    change_pipeline(owner=user, name=listing.name, visibility="public", steps=steps("mosaic"))
    with pytest.raises(Invalid):
        change_pipeline(owner=user, name=listing.name, steps=steps(("mosaic", {"tiles": str(folder.pk)})))
    with pytest.raises(Invalid) as caught:
        pipeline(other_user, ("mosaic", {"tiles": str(folder.pk)}))
    assert set(caught.value.fields) == {"mosaic.tiles"}


def test_a_pipeline_taken_down_cannot_be_shared(user: User, other_user: User) -> None:
    listing = pipeline(user, visibility=Visibility.PUBLIC)
    Listing.objects.update(taken_down=True)
    assert services.get_listing(user=user, owner=user.handle, name=listing.name)
    with pytest.raises(NotFound):
        services.get_listing(user=other_user, owner=user.handle, name=listing.name)
    change_pipeline(owner=user, name=listing.name, visibility=Visibility.PRIVATE)
    with pytest.raises(Conflict, match="operator"):
        change_pipeline(owner=user, name=listing.name, visibility=Visibility.PUBLIC)


# --- Copy and delete.


def test_a_shared_pipeline_can_be_duplicated(user: User, other_user: User) -> None:
    source = pipeline(user, visibility=Visibility.PUBLIC)
    copy = duplicate_pipeline(user=other_user, owner=user.handle, name=source.name)
    again = duplicate_pipeline(user=other_user, owner=user.handle, name=source.name)
    assert (copy.owner, copy.name, again.name) == (other_user, "night-comic", "night-comic-2")
    assert copy.visibility == Visibility.PRIVATE
    ours, theirs = services.latest_version(copy), services.latest_version(source)
    assert (ours.recipe, ours.params_schema) == (theirs.recipe, theirs.params_schema)
    change_pipeline(owner=user, name=source.name, visibility=Visibility.PRIVATE)
    with pytest.raises(NotFound):
        duplicate_pipeline(user=other_user, owner=user.handle, name=source.name)
    with pytest.raises(NotFound):
        duplicate_pipeline(user=other_user, owner="ipau", name="blackwhite")


def test_a_pipeline_without_jobs_is_deleted(user: User) -> None:
    listing = pipeline(user)
    delete_pipeline(owner=user, name=listing.name)
    assert not Listing.objects.filter(pk=listing.pk).exists()
    with pytest.raises(NotFound):
        delete_pipeline(owner=user, name=listing.name)
    with pytest.raises(NotFound):
        delete_pipeline(owner=user, name="a\0b")


def test_a_pipeline_with_jobs_is_archived_and_its_name_is_free(user: User) -> None:
    listing = pipeline(user, idempotency_key="k")
    version = services.latest_version(listing)
    job = submit_version(user, version, [upload(user)])
    delete_pipeline(owner=user, name=listing.name)
    listing.refresh_from_db()
    assert listing.archived_at is not None
    assert not pipelines.list_pipelines(owner=user).exists()
    for lookup in (
        lambda: services.get_listing(user=user, owner=user.handle, name=listing.name),
        lambda: services.get_version(user=user, version_id=version.pk),
    ):
        with pytest.raises(NotFound):
            lookup()
    job.refresh_from_db()
    assert job.version.listing.title == "Night comic"
    assert pipeline(user, name=listing.name, idempotency_key="k").pk != listing.pk


def test_built_in_apps_are_not_pipelines(user: User) -> None:
    assert ListingKind.PIPELINE not in set(Listing.objects.values_list("kind", flat=True))
    with pytest.raises(NotFound):
        pipelines.get_pipeline(user=user, owner="ipau", name="blackwhite")
