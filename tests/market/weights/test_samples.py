"""Chosen samples: permissions, worker results and visibility."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from PIL import Image
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import Blob, File
from drive.storage import blobs, sweep
from drive.uploads import work
from ipau.common.errors import Invalid, NotFound
from market.models import MAX_ATTEMPTS, MOST_CHOSEN, ChosenSample, Listing, Version
from market.weights import samples as choosing
from market.weights import samples_work, services
from market.weights.install import install_model
from market.weights.samples import shown_samples
from processing.playground import sample_pictures
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.pages.test_covers import add_samples, found
from tests.market.weights.fake_sandbox import small
from workers.trials import launch
from workers.trials.launch import DetectedClass, Trial, TrialSample

pytestmark = pytest.mark.django_db
DETECTOR = Path(__file__).resolve().parents[3] / "deploy" / "demo_models" / "shapes-detector"
PAGE = "/models/finder/samples/"


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def version(user: User) -> Version:
    return model(user, publish=True)


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Fake trials that detect a cat in each image except the last. Returns the inputs of each trial."""
    asked: list[list[bytes]] = []

    def try_model(_folder: Path, *, given: list[bytes], **_: Any) -> Trial:
        asked.append(list(given))
        shown = [
            TrialSample(None, small("red"), (DetectedClass(name="cat", count=2),), number=n)
            for n in range(len(given))
        ]
        return Trial(shown=tuple(shown[: max(1, len(given) - 1)]))

    monkeypatch.setattr(launch, "try_model", try_model)
    return asked


def pictures(owner: User, number: int) -> list[File]:
    made = [upload(owner, f"{n}.jpg", seed=n) for n in range(number)]
    work.inspect_uploads(owner.pk)
    for file in made:
        file.refresh_from_db()
    return made


def choose(owner: User, files: list[File], kept: list[ChosenSample] | None = None) -> list[ChosenSample]:
    ids = [row.pk for row in kept or []]
    choosing.choose_samples(owner=owner, name="finder", kept=ids, files=[file.pk for file in files])
    return list(ChosenSample.objects.all())


def test_a_worker_runs_the_model_on_chosen_images(user: User) -> None:
    """A real detector on a drawn image, in its sandbox."""
    content = (DETECTOR / "shapes-detector-1.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as drawn, io.BytesIO() as large:
        exif = Image.Exif()
        exif[0x010E] = "secret place"
        drawn.resize((1280, 1280)).save(large, "JPEG", exif=exif)
        file = upload(user, "drawn.jpg", data=large.getvalue())
    work.inspect_uploads(user.pk)
    words = {"title": "Finder", "summary": "", "description": ""}
    version = install_model(owner=user, folder=DETECTOR / "model", name="finder", **words)
    (row,) = choose(user, [file])
    assert samples_work.update_samples(version.listing_id)
    row.refresh_from_db()
    assert (row.is_due, row.weights, row.width, row.height) == (False, version.weights, 640, 640)
    assert {one["name"] for one in row.seen} <= {"circle", "square", "star", "triangle"}
    assert row.seen
    before, after = blobs.read(row.before_id), blobs.read(row.after_id)
    assert before[8:12] == after[8:12] == b"WEBP"
    assert before != after
    assert b"secret" not in before
    # The original is released.
    assert row.source is None
    assert not samples_work.update_samples(version.listing_id)


def test_the_page_saves_chosen_images_in_order(
    client: Client, user: User, version: Version, tried: list[list[bytes]]
) -> None:
    files = pictures(user, 3)
    answer = client.post(PAGE, {"file": [str(files[2].pk), str(files[0].pk)]})
    assert (answer.status_code, answer["Location"]) == (302, f"/apps/{user.handle}/finder/?tab=about")
    samples_work.update_samples(version.listing_id)
    first, second = ChosenSample.objects.all()
    assert (first.digest, second.digest) == (files[2].blob_id, files[0].blob_id)
    form = client.get(PAGE).content.decode()
    assert f'value="{first.pk}"' in form
    assert "is visible to everyone who can see the model" in form
    client.post(PAGE, {"kept": str(second.pk), "file": [str(files[1].pk), str(files[0].pk)]})
    assert [(row.digest, row.position) for row in ChosenSample.objects.all()] == [
        (files[0].blob_id, 0),
        (files[1].blob_id, 1),
    ]
    client.post(PAGE, {})
    assert not ChosenSample.objects.exists()


def test_a_search_saves_nothing_and_keeps_the_selection(client: Client, user: User, version: Version) -> None:
    first, second = pictures(user, 2)
    sent = {"search": "1", "q": second.name, "file": str(first.pk)}
    page = client.post(PAGE, sent).content.decode()
    assert f'value="{first.pk}"\n                       checked' in page
    assert f'value="{second.pk}"' in page
    assert not ChosenSample.objects.exists()
    assert f'value="{second.pk}"' not in client.post(PAGE, {**sent, "q": "nothing"}).content.decode()


def test_invalid_choices_are_explained(
    client: Client, user: User, other_user: User, version: Version
) -> None:
    many = pictures(user, MOST_CHOSEN + 1)
    answer = client.post(PAGE, {"file": [str(file.pk) for file in many]})
    assert answer.status_code == 422
    assert "at most 6 sample images. You chose 7." in answer.content.decode()
    assert answer.content.decode().count("checked") == 7
    unchecked = upload(user, "new.jpg", seed=99)
    with pytest.raises(Invalid, match="still being checked"):
        choose(user, [unchecked])
    with pytest.raises(NotFound):
        choose(user, pictures(other_user, 1))
    with pytest.raises(NotFound):
        choosing.choose_samples(owner=other_user, name="finder")
    assert client.post(PAGE, {"file": "nonsense"}).status_code == 404
    assert not ChosenSample.objects.exists()


def test_a_model_without_input_image_has_no_samples(user: User) -> None:
    model(user, layout="noise", task="image")
    with pytest.raises(Invalid, match="generates images from noise"):
        choose(user, pictures(user, 1))


def test_samples_of_another_account_are_404(
    client: Client,
    user: User,
    other_user: User,
    client_of: Callable[[User], Client],
    version: Version,
    tried: list[list[bytes]],
) -> None:
    stranger = client_of(other_user)
    assert stranger.get(PAGE).status_code == 404
    assert stranger.post(PAGE, {}).status_code == 404
    (row,) = choose(user, pictures(user, 1))
    path = f"/models/samples/{row.pk}/before.webp"
    # Nothing is served before a worker has created the small copy.
    assert Client().get(path).status_code == 404
    samples_work.update_samples(version.listing_id)
    assert is_sent(Client(), path)
    Listing.objects.update(visibility="private")
    assert stranger.get(path).status_code == 404
    assert is_sent(client, path)


def test_owners_of_the_same_weights_have_separate_samples(
    user: User, other_user: User, version: Version, tried: list[list[bytes]]
) -> None:
    others = model(other_user, publish=True)
    assert others.weights == version.weights
    common = add_samples(version, [found("dog")]).samples.get()
    (row,) = choose(user, pictures(user, 1))
    samples_work.update_samples(version.listing_id)
    mine = Client().get(f"/apps/{user.handle}/finder/").content.decode()
    theirs = Client().get(f"/apps/{other_user.handle}/finder/").content.decode()
    assert f"/models/samples/{row.pk}/before.webp" in mine
    assert str(common.pk) not in mine
    assert f"/models/samples/{common.pk}/before.webp" in theirs
    assert str(row.pk) not in theirs


def test_samples_are_on_the_card_in_the_api_and_in_the_picker(
    user: User, api: Callable[..., APIClient], version: Version, tried: list[list[bytes]]
) -> None:
    add_samples(version, [found("dog"), found("bird")])
    first, second = choose(user, pictures(user, 2))
    samples_work.update_samples(version.listing_id)
    card = Client().get("/models/").content.decode()
    assert f'src="/models/samples/{first.pk}/after.webp"' in card
    told = api(user).get(f"/v1/models/{user.handle}/finder").json()["latest_version"]["weights"]["samples"]
    assert [one["found"] for one in told] == [[{"name": "cat", "count": 2}], []]
    assert str(second.pk) in told[1]["before"]
    assert told[1]["after"] is None
    versions = api(user).get(f"/v1/models/{user.handle}/finder/versions").json()["results"]
    assert versions[0]["weights"]["samples"] == told
    assert [one.pk for one in sample_pictures.of_version(version)] == [first.pk, second.pk]
    assert sample_pictures.get_picture(user=None, sample_id=str(first.pk)) == Blob.objects.get(
        pk=tried_before(first)
    )


def is_sent(client: Client, path: str) -> bool:
    """Return whether an image is served. Reads it to the end, so that its file is closed."""
    answer = client.get(path)
    return answer.status_code == 200 and b"".join(answer.streaming_content)[8:12] == b"WEBP"


def tried_before(row: ChosenSample) -> str:
    row.refresh_from_db()
    assert row.before_id
    return row.before_id


def test_samples_outlive_the_files_of_the_drive(
    user: User, version: Version, tried: list[list[bytes]]
) -> None:
    (file,) = pictures(user, 1)
    (row,) = choose(user, [file])
    File.objects.all().delete()
    Blob.objects.update(touched_at=timezone.now() - timedelta(days=1))
    sweep.sweep_orphans()
    # Before the small copy exists, the row keeps the original bytes.
    samples_work.update_samples(version.listing_id)
    Blob.objects.update(touched_at=timezone.now() - timedelta(days=1))
    sweep.sweep_orphans()
    assert not Blob.objects.filter(pk=file.blob_id).exists()
    assert is_sent(Client(), f"/models/samples/{row.pk}/before.webp")
    before = tried_before(row)
    services.delete_model(owner=user, name="finder")
    Blob.objects.update(touched_at=timezone.now() - timedelta(days=1))
    sweep.sweep_orphans()
    assert not Blob.objects.filter(pk=before).exists()


def listings_due() -> list[UUID]:
    return list(samples_work.waiting().values_list("listing", flat=True).distinct())


def test_new_weights_run_on_the_same_images(user: User, version: Version, tried: list[list[bytes]]) -> None:
    (row,) = choose(user, pictures(user, 1))
    samples_work.update_samples(version.listing_id)
    newer = model(user, sure=(10, 20), publish=True)
    assert listings_due() == [version.listing_id]
    (stale,) = shown_samples(newer)
    # Results of other weights are not shown for these.
    assert (stale.before_id is not None, stale.after_id, stale.seen) == (True, None, [])
    page = Client().get(f"/apps/{user.handle}/finder/").content.decode()
    assert f"/models/samples/{row.pk}/after.webp" not in page
    samples_work.update_samples(version.listing_id)
    row.refresh_from_db()
    assert (row.weights, row.is_due) == (newer.weights, False)
    # The input is the stored copy, not reduced again.
    assert tried[1] == [blobs.read(row.before_id)] == tried[0]
    assert listings_due() == []


def test_a_failing_sample_is_tried_three_times(
    user: User, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "try_model", lambda _folder, **_: Trial("It breaks down."))
    (row,) = choose(user, pictures(user, 1))
    for _ in range(MAX_ATTEMPTS):
        assert listings_due() == [version.listing_id]
        assert samples_work.update_samples(version.listing_id)
    assert listings_due() == []
    assert not samples_work.update_samples(version.listing_id)
    row.refresh_from_db()
    # It can still be chosen on the model's page.
    assert (bool(row.before_id), row.is_waiting) == (True, False)


def test_results_of_outdated_weights_are_dropped(
    user: User, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release_meanwhile(_folder: Path, **_: Any) -> Trial:
        model(user, sure=(10, 20))
        return Trial(shown=(TrialSample(None, small("red"), number=0),))

    monkeypatch.setattr(launch, "try_model", release_meanwhile)
    (row,) = choose(user, pictures(user, 1))
    samples_work.update_samples(version.listing_id)
    row.refresh_from_db()
    assert (row.before, row.is_due, row.attempts) == (None, True, 0)


def test_database_constraints(user: User, version: Version) -> None:
    (row,) = choose(user, pictures(user, 1))
    for wrong in ({"position": MOST_CHOSEN}, {"source": None}, {"before_id": row.digest}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ChosenSample.objects.update(**wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        ChosenSample.objects.create(
            listing=version.listing, position=1, source_id=row.digest, digest=row.digest
        )


def test_lists_have_a_constant_number_of_queries(
    user: User, tried: list[list[bytes]], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    files = pictures(user, 2)
    costs = []
    for number in (1, 3):
        for n in range(number):
            version = model(user, f"m{number}-{n}", publish=True, sure=(number, n))
            ids = [file.pk for file in files]
            choosing.choose_samples(owner=user, name=version.listing.name, files=ids)
            samples_work.update_samples(version.listing_id)
        with django_assert_num_queries(20, exact=False) as counted:
            Client().get("/models/")
        costs.append(len(counted))
    assert costs[0] == costs[1]
