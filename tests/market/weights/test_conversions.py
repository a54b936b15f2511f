"""Conversions: requests, claims, results and clean-up."""

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import User
from drive.files.services import select
from drive.files.trash import trash
from drive.models import Blob, File, FileState
from drive.storage import blobs, sweep
from ipau.common.errors import Conflict, Invalid, NotFound
from market.listings import services
from market.models import (
    Conversion,
    ConversionAccount,
    ConversionState,
    Listing,
    ListingKind,
    Version,
    Visibility,
    Weights,
)
from market.sandbox import owner_leases, work_dirs
from market.weights import conversions, tasks, work
from market.weights import services as weights_services
from tests.drive.factories import upload
from tests.market.factories import bundle_bytes, marks, model
from tests.market.pipelines.factories import pipeline
from tests.market.weights.fake_sandbox import accepting, refusing, report, use
from tests.processing.factories import submit_version, take_turns
from tests.workers.checkpoints.weights_files import safetensors_bytes
from workers.bundle import FACTS, GRAPH

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def weights_of(owner: User, name: str = "best.safetensors", **metadata: str) -> File:
    return upload(owner, name, data=safetensors_bytes(**metadata))


def ask(owner: User, **options: Any) -> Conversion:
    given = {"file": options.pop("file", None) or weights_of(owner), "name": "finder", **options}
    return conversions.request_conversion(owner=owner, **given)


def convert(conversion: Conversion) -> Conversion:
    work.convert(conversion.pk)
    conversion.refresh_from_db()
    return conversion


# --- Requests.


def test_weights_become_a_private_model(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, accepting())
    conversion = ask(user, title="Finds cats")
    assert (conversion.state, conversion.source_name) == (ConversionState.STARTING, "best.safetensors")
    conversion = convert(conversion)
    assert conversion.state == ConversionState.SUCCEEDED
    assert conversion.report["isolation"] == {"bubblewrap": True, "network": True}
    assert conversion.source is None
    version = conversion.version
    assert version is not None
    listing = version.listing
    assert (listing.kind, listing.visibility, listing.title) == (ListingKind.MODEL, "private", "Finds cats")
    assert listing.summary == "Marks detector"
    assert (version.number, version.weights.facts["classes"]) == (1, ["cat", "dog"])
    assert version.recipe == {
        "steps": [{"operation": "marks", "params": {}, "weights": version.weights.digest}]
    }
    assert blobs.read(version.weights.onnx_id) == bytes((90, 40))
    assert list((Path(settings.DATA_DIR) / "conversions").iterdir()) == []


def test_the_same_name_adds_a_version_and_the_same_weights_none(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_of(user)
    use(monkeypatch, accepting())
    first = convert(ask(user, file=file)).version
    assert convert(ask(user, file=file)).version == first
    use(monkeypatch, accepting((50, 50)))
    second = convert(ask(user, file=file, publish=True)).version
    assert first is not None
    assert second is not None
    assert (second.listing_id, second.number) == (first.listing_id, 2)
    assert Listing.objects.get(pk=first.listing_id).visibility == Visibility.PUBLIC
    assert Weights.objects.count() == 2


def test_two_accounts_with_the_same_weights_share_the_bytes(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, accepting())
    mine, theirs = convert(ask(user)).version, convert(ask(other_user)).version
    assert mine is not None
    assert theirs is not None
    assert mine.weights == theirs.weights
    weights_services.delete_model(owner=user, name="finder")
    assert Weights.objects.count() == 1
    weights_services.delete_model(owner=other_user, name="finder")
    assert not Weights.objects.exists()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "Bad Name"}, "name"),
        ({"name": "new"}, "name"),
        ({"title": "x" * 101}, "title"),
        ({"family": "nonesuch"}, "family"),
        ({"config": "{"}, "config"),
        ({"config": "[1]"}, "config"),
        ({"config": '{"a": NaN}'}, "config"),
    ],
)
def test_invalid_fields_are_named(user: User, given: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(user, **given)
    assert set(caught.value.fields) == {field}
    assert not Conversion.objects.exists()


def test_only_own_weights_are_accepted(user: User, other_user: User) -> None:
    picture, theirs, trashed = upload(user), weights_of(other_user), weights_of(user)
    trash(owner=user, chosen=select(owner=user, file_ids=[trashed.pk]))
    for file in (picture, theirs, trashed):
        with pytest.raises(NotFound):
            ask(user, file=file)
    refused = weights_of(user)
    File.objects.filter(pk=refused.pk).update(state=FileState.REFUSED, reason="It is damaged.")
    with pytest.raises(Invalid, match="It is damaged"):
        ask(user, file=refused)


def test_the_name_of_a_pipeline_is_taken(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    name = pipeline(user).name
    with pytest.raises(Conflict):
        ask(user, name=name)
    # Or it was taken during the conversion.
    conversion = ask(user, name="later")
    Listing.objects.filter(owner=user, name=name).update(name="later")
    use(monkeypatch, accepting())
    conversion = convert(conversion)
    assert (conversion.state, conversion.report["code"]) == (ConversionState.FAILED, "name_taken")
    assert not Weights.objects.exists()


def test_a_repeated_request_is_the_same_conversion(user: User) -> None:
    file = weights_of(user)
    first = ask(user, file=file, idempotency_key="a")
    assert ask(user, file=file, idempotency_key="a") == first
    with pytest.raises(Conflict):
        ask(user, file=file, name="other", idempotency_key="a")
    with pytest.raises(Invalid):
        ask(user, file=file, idempotency_key="")


def test_open_conversions_are_limited(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "MOST_OPEN", 2)
    file = weights_of(user)
    ask(user, file=file)
    ask(user, file=file)
    with pytest.raises(Invalid, match="2 conversions"):
        ask(user, file=file)


# --- Refused.


def test_a_refused_upload_leaves_a_report_and_nothing_else(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Blob.objects.values_list("pk", flat=True))
    file = weights_of(user)
    use(monkeypatch, refusing())
    conversion = convert(ask(user, file=file))
    assert conversion.state == ConversionState.FAILED
    assert conversion.report["sentence"] == "This file names code to run: os.system."
    assert (conversion.version, conversion.source) == (None, None)
    assert set(Blob.objects.values_list("pk", flat=True)) - before == {file.blob_id}
    assert not Weights.objects.exists()
    assert not Listing.objects.filter(kind=ListingKind.MODEL).exists()
    assert list((Path(settings.DATA_DIR) / "conversions").iterdir()) == []


def test_a_refused_conversion_can_be_retried(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights_of(user)
    use(monkeypatch, refusing())
    conversion = convert(ask(user, file=file))
    again = conversions.retry_conversion(owner=user, conversion_id=conversion.pk)
    assert (again.state, again.report, again.attempts) == (ConversionState.STARTING, {}, 0)
    with pytest.raises(Conflict):
        conversions.retry_conversion(owner=user, conversion_id=conversion.pk)
    use(monkeypatch, accepting())
    assert convert(conversion).state == ConversionState.SUCCEEDED
    with pytest.raises(Conflict):
        conversions.retry_conversion(owner=user, conversion_id=conversion.pk)


def test_a_deleted_file_cannot_be_retried(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_of(user)
    use(monkeypatch, refusing())
    conversion = convert(ask(user, file=file))
    with pytest.raises(NotFound):
        conversions.retry_conversion(owner=other_user, conversion_id=conversion.pk)
    trash(owner=user, chosen=select(owner=user, file_ids=[file.pk]))
    with pytest.raises(Invalid, match="no longer in your drive"):
        conversions.retry_conversion(owner=user, conversion_id=conversion.pk)


def test_a_report_is_cleaned_for_the_database(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, refusing("A class is called “a\0b\ud800”."))
    assert convert(ask(user)).report["sentence"] == "A class is called “a�b?”."


# --- Claims.


def test_a_duplicate_wake_up_does_nothing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inner = accepting()

    def convert_and_look(*given: Any, **named: Any) -> Any:
        seen.append(work.convert(conversion.pk))
        return inner(*given, **named)

    use(monkeypatch, convert_and_look)
    conversion = ask(user)
    assert work.convert(conversion.pk)
    assert not work.convert(conversion.pk)
    assert seen == [False]


def test_a_worker_without_its_lease_saves_nothing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, token = accepting(), uuid.uuid4()

    def lose(*given: Any, **named: Any) -> Any:
        Conversion.objects.update(lease_token=token)
        return inner(*given, **named)

    use(monkeypatch, lose)
    conversion = convert(ask(user))
    assert (conversion.state, conversion.lease_token) == (ConversionState.PROCESSING, token)
    assert not Weights.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_stops_when_its_lease_is_lost(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, token = accepting(), uuid.uuid4()
    tried: list[bool] = []
    lost: list[threading.Event] = []
    do = work._run

    def lose(*given: Any, **named: Any) -> Any:
        assert not lost[0].wait(0.3), "Its renewals keep it."
        Conversion.objects.update(lease_token=token)
        assert lost[0].wait(5)
        return inner(*given, **named)

    def watch(held: Any, event: threading.Event) -> None:
        lost.append(event)
        do(held, event)

    monkeypatch.setattr(owner_leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(work, "_run", watch)
    monkeypatch.setattr(work.trials, "try_weights", lambda *_, **__: tried.append(True))
    use(monkeypatch, lose)
    conversion = convert(ask(user))
    assert (conversion.state, conversion.lease_token) == (ConversionState.PROCESSING, token)
    assert not tried
    # The lease of the owner is released nevertheless.
    assert ConversionAccount.objects.get().lease_token is None


def test_a_conversion_fails_after_three_dead_workers(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*given: Any, **named: Any) -> Any:
        raise RuntimeError("killed")

    use(monkeypatch, die)
    conversion = ask(user)
    for attempt in (1, 2, 3):
        with pytest.raises(RuntimeError):
            work.convert(conversion.pk)
        assert not work.convert(conversion.pk)  # it may belong to another worker
        conversion.refresh_from_db()
        assert conversion.attempts == attempt
        Conversion.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert not work.convert(conversion.pk)
    tasks.sweep()
    conversion.refresh_from_db()
    assert (conversion.state, conversion.report["code"]) == (ConversionState.FAILED, "crashed")
    assert conversion.source is None


def test_the_sweep_deletes_folders_of_killed_workers(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(settings.DATA_DIR) / "conversions"
    token, seen = uuid.uuid4(), []

    def look(*given: Any, **named: Any) -> Any:
        # The folder of a valid lease stays. The folder of a lost lease is deleted.
        (base / f"{conversion.pk.hex}-{token.hex}" / "out").mkdir(parents=True)
        tasks.sweep()
        seen.append([folder.name for folder in base.iterdir()])
        Conversion.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=50))
        assert work_dirs.delete_orphaned() == 0
        Conversion.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=70))
        assert work_dirs.delete_orphaned() == 1
        given[1].parent.mkdir()
        return refusing()(*given, **named)

    use(monkeypatch, look)
    conversion = ask(user)
    work.convert(conversion.pk)
    ((name,),) = seen
    assert name.startswith(f"{conversion.pk.hex}-")
    assert not name.endswith(token.hex)
    assert list(base.iterdir()) == []


def test_the_sweep_wakes_a_worker_for_waiting_work(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(tasks, "send_turn", lambda: woken.append(True))
    fresh = ask(user, name="fresh")
    tasks.sweep()
    assert not woken
    long_ago = timezone.now() - timedelta(minutes=1)
    Conversion.objects.filter(pk=fresh.pk).update(updated_at=long_ago)
    tasks.sweep()
    assert len(woken) == 1
    dead = {"state": ConversionState.PROCESSING, "lease_token": uuid.uuid4(), "attempts": 1}
    Conversion.objects.filter(pk=fresh.pk).update(lease_expires_at=long_ago, **dead)
    tasks.sweep()
    assert len(woken) == 2
    Conversion.objects.filter(pk=fresh.pk).update(lease_expires_at=timezone.now() + timedelta(minutes=1))
    tasks.sweep()
    assert len(woken) == 2


def test_missing_content_is_reported(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = ask(user, file=weights_of(user, note="gone"))
    assert conversion.source is not None
    default_storage.delete(conversion.source.path)
    assert convert(conversion).report["code"] == "gone"


# --- Database constraints.


@pytest.mark.parametrize(
    "changes",
    [
        {"source": None},
        {"state": ConversionState.FAILED},
        {"state": ConversionState.PROCESSING},
        {"lease_token": uuid.uuid4()},
        {"completed_at": timezone.now()},
    ],
)
def test_inconsistent_rows_are_refused(user: User, changes: dict[str, Any]) -> None:
    conversion = ask(user)
    with pytest.raises(IntegrityError), transaction.atomic():
        Conversion.objects.filter(pk=conversion.pk).update(**changes)


def test_the_digest_of_weights_is_that_of_model_json(user: User) -> None:
    weights = model(user).weights
    with pytest.raises(IntegrityError), transaction.atomic():
        Weights.objects.filter(pk=weights.pk).update(digest="0" * 64)


def test_the_sweep_of_blobs_keeps_files_of_models(user: User) -> None:
    version = model(user)
    Blob.objects.update(touched_at=timezone.now() - timedelta(days=1))
    sweep.sweep_orphans()
    kept = set(Blob.objects.values_list("pk", flat=True))
    assert kept >= {version.weights.model_json_id, version.weights.onnx_id, version.weights.safetensors_id}
    weights_services.delete_model(owner=user, name="finder")
    sweep.sweep_orphans()
    assert not Blob.objects.filter(pk=version.weights.model_json_id).exists()


# --- Share and delete.


def test_a_model_with_jobs_is_archived(user: User) -> None:
    version = model(user)
    job = submit_version(user, version, [upload(user)])
    take_turns(user)
    weights_services.delete_model(owner=user, name="finder")
    job.refresh_from_db()
    assert job.version == version
    assert Weights.objects.filter(pk=version.weights_id).exists()
    with pytest.raises(NotFound):
        services.get_listing(user=user, owner=user.handle, name="finder")
    assert not weights_services.list_models(owner=user).exists()


def test_a_model_is_made_public_and_private(user: User, other_user: User) -> None:
    version = model(user)
    with pytest.raises(NotFound):
        services.get_version(user=other_user, version_id=version.pk)
    weights_services.share_model(owner=user, name="finder", visibility=Visibility.PUBLIC)
    assert services.get_version(user=other_user, version_id=version.pk) == version
    Listing.objects.update(taken_down=True)
    with pytest.raises(Conflict):
        weights_services.share_model(owner=user, name="finder", visibility=Visibility.PUBLIC)
    with pytest.raises(NotFound):
        weights_services.share_model(owner=other_user, name="finder", visibility=Visibility.PUBLIC)


def test_syncing_apps_keeps_models_of_the_platform(user: User) -> None:
    platform = User.objects.get(handle="ipau")
    listing = model(platform, publish=True).listing
    services.sync_builtin_listings()
    listing.refresh_from_db()
    assert listing.visibility == Visibility.PUBLIC


def test_a_bundle_is_stored_as_it_is(user: User) -> None:
    version = model(user)
    files = bundle_bytes()
    assert blobs.read(version.weights.digest) == files[FACTS]
    assert blobs.read(version.weights.onnx_id) == files[GRAPH]
    assert report().ok
    assert Version.objects.filter(weights=version.weights).count() == 1
