"""Running pipelines: parameters by step, folders by step, versions with missing apps."""

from typing import Any

import pytest

from accounts.models import User
from drive.files.services import create_folder
from drive.models import Folder
from ipau.common.errors import Invalid
from market.listings import services as market
from market.models import Listing, Version, Visibility
from processing.execution.output_options import Options
from processing.jobs import manifests
from processing.jobs.prepare import memo_key, prepare, queue_of
from processing.models import Item, Job, Output, Resource, State
from tests.drive.factories import upload
from tests.market.pipelines.factories import pipeline
from tests.pictures import picture_bytes
from tests.processing.factories import submit_version, take_turns, version
from workers import registry
from workers.plugin import Context, Operation, Params, PictureView, Result, slider

pytestmark = pytest.mark.django_db


@pytest.fixture
def comic(user: User) -> Version:
    return market.latest_version(pipeline(user))


def params_of(version: Version, user: User, **params: Any) -> list[dict[str, Any]]:
    return [step.params for step in prepare(owner=user, version=version, params=params).recipe.steps]


def tiles(owner: User, name: str, color: int) -> Folder:
    folder = create_folder(owner=owner, parent=None, name=name)
    upload(owner, f"{name}.jpg", folder=folder, seed=color)
    return folder


def test_missing_parameters_use_the_authors_values(comic: Version, user: User) -> None:
    pixels, gray = params_of(comic, user)
    assert (pixels["block"], gray["contrast"]) == (9, 20)
    pixels, gray = params_of(comic, user, **{"pixelart.block": "12", "blackwhite.finish": "dither"})
    assert (pixels["block"], gray["contrast"], gray["finish"]) == (12, 20, "dither")


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ("block", "There is no parameter “block”."),
        ("pixelart", "There is no parameter “pixelart”."),
        ("pixelart.", "There is no parameter “pixelart.”."),
        ("pixelart.size", "There is no parameter “size”."),
        ("blackwhite.level", "There is no parameter “level”. It was renamed to “threshold”."),
        ("mosaic.tile", "There is no parameter “mosaic.tile”."),
        ("blackwhite.contrast", "Contrast must be at most 100."),
    ],
)
def test_wrong_parameters_are_reported_by_name(sent: str, sentence: str, comic: Version, user: User) -> None:
    with pytest.raises(Invalid) as caught:
        prepare(owner=user, version=comic, params={sent: 900})
    assert caught.value.fields == {sent: sentence}


def test_hidden_parameters_cannot_be_overridden(comic: Version, user: User) -> None:
    """A parameter outside the schema always has the author's value."""
    del comic.params_schema["properties"]["pixelart.block"]
    assert params_of(comic, user, **{"pixelart.block": 30})[0]["block"] == 9


def test_each_step_freezes_its_own_folder(user: User) -> None:
    one, two = tiles(user, "One", 1), tiles(user, "Two", 2)
    listing = pipeline(user, ("mosaic", {"tiles": str(one.pk)}), "mosaic")
    job = submit_version(
        user, market.latest_version(listing), [upload(user)], params={"mosaic2.tiles": str(two.pk)}
    )
    frozen = dict(Resource.objects.filter(job=job).values_list("parameter", "blob"))
    assert frozen == {
        "mosaic.tiles": one.files.get().blob_id,
        "mosaic2.tiles": two.files.get().blob_id,
    }
    take_turns(user)
    assert Job.objects.get().state == State.SUCCEEDED


def test_folder_must_belong_to_the_account_that_runs(user: User, other_user: User) -> None:
    listing = pipeline(user, "blackwhite", "mosaic", visibility=Visibility.PUBLIC)
    newest = market.get_latest_version(user=other_user, owner=user.handle, name=listing.name)
    mine = tiles(user, "Mine", 1)
    with pytest.raises(Invalid) as caught:
        prepare(owner=other_user, version=newest, params={"mosaic.tiles": str(mine.pk)})
    assert set(caught.value.fields) == {"mosaic.tiles"}
    theirs = tiles(other_user, "Theirs", 2)
    found = prepare(owner=other_user, version=newest, params={"mosaic.tiles": str(theirs.pk)})
    assert list(found.resources) == ["mosaic.tiles"]


def test_folder_of_a_step_cannot_differ_by_image(user: User) -> None:
    folder = tiles(user, "Tiles", 1)
    newest = market.latest_version(pipeline(user, "mosaic"))
    given = {"mosaic.tiles": str(folder.pk)}
    with pytest.raises(Invalid, match="same for all images"):
        prepare(owner=user, version=newest, params=given, own=given)


def test_cache_key_depends_on_the_step_of_a_folder(user: User) -> None:
    one, two = str(tiles(user, "One", 1).pk), str(tiles(user, "Two", 2).pk)
    newest = market.latest_version(pipeline(user, "mosaic", "mosaic"))

    def key(first: str, second: str) -> str:
        given = {"mosaic.tiles": first, "mosaic2.tiles": second}
        return memo_key(prepare(owner=user, version=newest, params=given), Options(), "0" * 64)

    assert key(one, two) == key(one, two) != key(two, one)


def test_pipeline_runs_over_images(comic: Version, user: User) -> None:
    files = [upload(user, f"{n}.png", data=picture_bytes("PNG", seed=n)) for n in range(3)]
    job = submit_version(user, comic, files, params={"pixelart.block": 16})
    take_turns(user)
    job.refresh_from_db()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 3)
    assert job.output_folder is not None
    assert job.output_folder.name.startswith("Night comic ")
    assert Output.objects.filter(item__job=job, label="image").count() == 3
    assert job.input == {"pixelart.block": 16}


def test_texts_of_two_steps_become_two_files(user: User) -> None:
    newest = market.latest_version(pipeline(user, ("ascii", {"columns": 20}), ("ascii", {"columns": 30})))
    submit_version(user, newest, [upload(user, "cat.jpg")])
    take_turns(user)
    made = {o.label: o.file.name for o in Output.objects.select_related("file")}
    assert made == {"image": "cat.png", "text": "cat.txt", "text2": "cat (2).txt"}


def test_table_columns_name_the_step(comic: Version, user: User) -> None:
    (row,) = manifests.read_table(b"file,pixelart.block\nsea.jpg,7\n", comic.params_schema)
    found = prepare(owner=user, version=comic, params=row.params, own=row.params)
    assert [step.params.get("block") for step in found.recipe.steps] == [7, None]
    with pytest.raises(Invalid, match="no parameter “block”"):
        manifests.read_table(b"file,block\nsea.jpg,7\n", comic.params_schema)


class GoneParams(Params):
    amount: int = slider(1, ge=0, le=9, title="Amount", help="How much.")


class Gone(Operation[GoneParams]):
    """An app that exists only while a pipeline is created."""

    key = "gone"
    title = "Gone"
    summary = "Was here."
    description = "Was here, for tests of what happens to pipelines whose app is taken away."
    Params = GoneParams

    def run(self, picture: PictureView, params: GoneParams, context: Context) -> Result:
        return Result(picture.rgb())


def test_pipeline_with_a_missing_app_reports_it(user: User) -> None:
    with registry.register(Gone()):
        newest = market.latest_version(pipeline(user, "blackwhite", "gone"))
        job = submit_version(user, newest, [upload(user)])
    for params in ({}, {"gone.amount": 3}):
        with pytest.raises(Invalid) as caught:
            prepare(owner=user, version=newest, params=params)
        assert caught.value.message == "Step 2: there is no app “gone”."
    assert queue_of(newest) == "cpu"
    take_turns(user)
    item = Item.objects.get(job=job)
    assert (item.state, item.error) == (State.FAILED, "There is no operation “gone”.")


def test_missing_built_in_app_reports_it(user: User) -> None:
    builtin = version()
    builtin.recipe["steps"][0]["operation"] = "gone"
    with pytest.raises(Invalid, match="no longer exists"):
        prepare(owner=user, version=builtin, params={})


def test_parameters_that_an_app_no_longer_accepts_are_reported(user: User) -> None:
    with registry.register(Gone()):
        newest = market.latest_version(pipeline(user, "blackwhite", ("gone", {"amount": 9})))

    class Narrower(Params):
        amount: int = slider(1, ge=0, le=5, title="Amount", help="How much.")

    class Changed(Gone):
        Params = Narrower

    with registry.register(Changed()), pytest.raises(Invalid) as caught:
        prepare(owner=user, version=newest, params={})
    assert caught.value.fields == {"gone.amount": "Amount must be at most 5."}


def test_runs_are_counted_for_the_pipeline(comic: Version, user: User) -> None:
    submit_version(user, comic, [upload(user)])
    assert Listing.objects.get(pk=comic.listing_id).run_count == 1
