"""Results of trials: speeds and samples on pages, in the API and in the storage."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import Blob
from drive.storage import blobs, sweep
from market.models import Conversion, Listing, Sample, Speed
from market.weights import conversions, services, trials, work
from market.weights.report import describe_report
from market.weights.speeds import format_speed
from tests.market.factories import marks, model
from tests.market.weights.fake_sandbox import accepting, tried, use
from tests.workers.checkpoints.weights_files import safetensors_bytes
from workers import devices
from workers.trials.launch import Trial

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def converted(user: User, monkeypatch: pytest.MonkeyPatch) -> Conversion:
    return convert(user, monkeypatch)


def convert(
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Trial | None = None,
    *,
    name: str = "finder",
    **facts: object,
) -> Conversion:
    use(monkeypatch, accepting(**facts), outcome)
    content = SimpleUploadedFile("best.safetensors", safetensors_bytes())
    file = conversions.upload_weights(
        owner=owner, name="best.safetensors", content=content.file, size=content.size
    )
    conversion = conversions.request_conversion(owner=owner, file=file, name=name)
    work.convert(conversion.pk)
    conversion.refresh_from_db()
    return conversion


def test_a_conversion_saves_speed_and_samples(converted: Conversion) -> None:
    speed = Speed.objects.get()
    assert (speed.kind, speed.device) == ("cpu", devices.processor().name)
    assert (speed.first_ms, speed.each_ms, speed.runs) == (310.4, 45.2, 9)
    assert format_speed(speed) == (
        f"First image 310 ms, then 45 ms per image on {speed.device} (450 × 300 pixels)"
    )
    first, second = Sample.objects.all()
    assert (first.caption, first.seen, first.width, first.height) == (
        "The face of a cat",
        [{"name": "cat", "count": 2}],
        45,
        30,
    )
    assert blobs.read(first.after_id)[8:12] == b"WEBP"
    assert (second.after, second.seen) == (None, [{"name": "dog", "confidence": 0.875}])
    assert converted.report["trial"]["each_ms"] == 45.2


def test_the_same_weights_again_replace_speeds_and_keep_samples(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(user, monkeypatch)
    first = list(Sample.objects.values_list("pk", flat=True))
    convert(other_user, monkeypatch, tried(first_ms=200.0))
    assert [speed.first_ms for speed in Speed.objects.all()] == [200.0]
    assert list(Sample.objects.values_list("pk", flat=True)) == first
    monkeypatch.setattr(devices, "processor", lambda: devices.Device("cpu", "Another one"))
    convert(other_user, monkeypatch)
    assert Speed.objects.count() == 2


def test_a_model_with_a_failed_trial_is_released(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert(user, monkeypatch, Trial("The model crashes when it runs on an image."))
    assert conversion.state == "succeeded"
    assert not Speed.objects.exists()
    assert not Sample.objects.exists()
    assert conversion.version is not None
    told = describe_report(conversion.report, conversion.version.weights)
    assert told.speeds == []
    assert told.untried.endswith("The model crashes when it runs on an image.")


def test_a_trial_of_one_image_has_no_median(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(user, monkeypatch, tried(first_ms=48_300.0, each_ms=None, runs=1))
    assert format_speed(Speed.objects.get()).startswith("First image 48 s on ")


def test_samples_are_deleted_with_their_weights(converted: Conversion, user: User) -> None:
    kept = set(Sample.objects.values_list("before_id", flat=True))
    Blob.objects.update(touched_at=timezone.now() - timedelta(days=1))
    sweep.sweep_orphans()
    assert set(Blob.objects.filter(pk__in=kept).values_list("pk", flat=True)) == kept
    services.delete_model(owner=user, name="finder")
    assert not Sample.objects.exists()
    assert not Speed.objects.exists()
    sweep.sweep_orphans()
    assert not Blob.objects.filter(pk__in=kept).exists()


@pytest.mark.parametrize(
    "changes", [{"first_ms": 0}, {"each_ms": None}, {"each_ms": -1}, {"runs": 1}, {"kind": "tpu"}]
)
def test_inconsistent_speeds_are_refused(converted: Conversion, changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Speed.objects.update(**changes)


def test_an_empty_sample_is_refused(converted: Conversion) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Sample.objects.update(before=None, after=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        Sample.objects.update(position=0)


# --- Who sees it.


def test_report_and_listing_show_the_trial(
    converted: Conversion, user: User, client_of: Callable[[User], Client]
) -> None:
    client, rows = client_of(user), list(Sample.objects.all())
    for path in (f"/models/conversions/{converted.pk}/", f"/apps/{user.handle}/finder/"):
        page = client.get(path).content.decode()
        shown = " ".join(re.sub(r"<[^>]+>", " ", page).split())
        assert f"{devices.processor().name} trial at 450 × 300 pixels 310 ms 45 ms –" in shown
        assert f'src="/models/samples/{rows[0].pk}/after.webp"' in page
        assert 'alt="The face of a cat"' in page
        assert 'alt="Result of the model: 2 × cat"' in page
        assert "dog 88%" in page
        assert f"/models/samples/{rows[1].pk}/after.webp" not in page


@pytest.mark.parametrize(
    ("task", "before", "seen", "said"),
    [
        ("detect", True, [], "Nothing found"),
        ("image", True, [], "Before and after"),
        ("image", False, [], "Generated from noise"),
        ("classify", True, [{"name": "cat", "confidence": 0.5}], "cat 50%"),
        (
            "classify",
            True,
            [{"name": "cat", "confidence": 0.996}, {"name": "dog", "confidence": 0.004}],
            "cat 100%",
        ),
    ],
)
def test_the_caption_of_a_sample_is_its_result(
    converted: Conversion, task: str, before: bool, seen: list[object], said: str
) -> None:
    assert converted.version is not None
    weights = converted.version.weights
    assert weights is not None
    weights.task = task
    Sample.objects.filter(position=0).update(seen=seen)
    if not before:
        Sample.objects.filter(position=0).update(before=None, caption="")
    assert describe_report(converted.report, weights).samples[0].caption == said


def test_a_sample_is_visible_with_its_model(
    converted: Conversion, user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    row = Sample.objects.first()
    assert row is not None
    path = f"/models/samples/{row.pk}/after.webp"
    answer = client_of(user).get(path)
    assert answer["Content-Type"] == "image/webp"
    assert b"".join(answer.streaming_content) == blobs.read(row.after_id)
    assert client_of(other_user).get(path).status_code == 404
    assert Client().get(path).status_code == 404
    services.share_model(owner=user, name="finder", visibility="public")
    assert b"".join(Client().get(path).streaming_content) == blobs.read(row.after_id)
    assert Client().get(f"/models/samples/{row.pk}/weights.webp").status_code == 404
    assert Client().get(f"/models/samples/{converted.pk}/after.webp").status_code == 404
    Listing.objects.update(taken_down=True)
    assert client_of(other_user).get(path).status_code == 404


def test_the_api_returns_the_trial(
    converted: Conversion, user: User, api: Callable[..., APIClient], client_of: Callable[[User], Client]
) -> None:
    told = api(user).get(f"/v1/models/{user.handle}/finder").json()["latest_version"]["weights"]
    assert (told["family"], told["classes"], told["class_count"]) == ("marks", ["cat", "dog"], 2)
    assert told["speeds"] == [
        {
            "kind": "cpu",
            "device": devices.processor().name,
            "first_ms": 310.4,
            "each_ms": 45.2,
            "width": 450,
            "height": 300,
        }
    ]
    assert [sample["found"] for sample in told["samples"]] == [
        [{"name": "cat", "count": 2}],
        [{"name": "dog", "confidence": 0.875}],
    ]
    assert told["samples"][1]["after"] is None
    sent = client_of(user).get(told["samples"][0]["after"])
    assert b"".join(sent.streaming_content)[8:12] == b"WEBP"
    versions = api(user).get(f"/v1/models/{user.handle}/finder/versions").json()["results"]
    assert versions[0]["weights"] == told
    assert api(user).get("/v1/models/ipau/mosaic").json()["latest_version"]["weights"] is None


def test_the_api_list_has_a_constant_number_of_queries(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    client.get("/v1/models")
    counts = []
    for number in range(2):
        version = model(user, f"finder-{number}", sure=(90, number))
        assert version.weights is not None
        trials.keep_trial(weights=version.weights, tried=trials.StoredTrial(tried(shown=()), "A processor"))
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/v1/models").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


HALVES = {"task": "classify", "mean": [0.5] * 3, "std": [0.5] * 3}
PLAIN = {"task": "classify", "mean": [0.0] * 3, "std": [1.0] * 3}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {**HALVES, "crop_pct": 0.875, "assumed": []},
            "mean 0.5, 0.5, 0.5, standard deviation 0.5, 0.5, 0.5 (as specified); "
            "center square, 87.5% of the image’s shorter side (as specified)",
        ),
        (
            {**HALVES, "stretch": True, "assumed": ["std"]},
            "mean 0.5, 0.5, 0.5, standard deviation 0.5, 0.5, 0.5 (partly assumed); "
            "whole image, stretched to a square (as specified)",
        ),
        (PLAIN, "values from 0 to 1; center square of the image"),
        (
            {**HALVES, "family": "vit"},
            "mean 0.5, 0.5, 0.5, standard deviation 0.5, 0.5, 0.5; whole image, stretched to a square",
        ),
        (
            {**PLAIN, "task": "segment", "layout": "semantic", "assumed": ["mean", "std"]},
            "values from 0 to 1 (assumed)",
        ),
        (
            {**PLAIN, "task": "segment", "layout": "labels", "assumed": []},
            "values from 0 to 1 (as specified)",
        ),
        ({"task": "detect"}, None),
        ({**PLAIN, "task": "image"}, None),
    ],
)
def test_reports_show_the_preprocessing(facts: dict[str, object], said: str | None) -> None:
    report = describe_report({"facts": facts})
    assert dict(report.facts).get("Preprocessing") == said
    assert report.pixels == (said or "")


@pytest.mark.parametrize(
    ("facts", "said", "size"),
    [
        ({"flops": 6_500_000_000}, "6.5 GFLOPs for 64 × 64 pixels", {"width": 64, "height": 64}),
        (
            {"flops": 10**12, "input": {"width": 0, "height": 0, "channels": 3}},
            "1,000.0 GFLOPs for 1024 × 1024 pixels",
            {"width": 1024, "height": 1024},
        ),
        ({"flops": 1_600_000}, "1.6 MFLOPs for 64 × 64 pixels", {"width": 64, "height": 64}),
        ({"flops": 10**9, "layout": "noise"}, "1.0 GFLOPs", None),
    ],
)
def test_operations_show_their_image_size(
    user: User,
    api: Callable[..., APIClient],
    facts: dict[str, object],
    said: str,
    size: object,
) -> None:
    version = model(user, **facts)
    assert version.weights is not None
    assert said in dict(describe_report({"facts": version.weights.facts}).facts).values()
    told = api(user).get(f"/v1/models/{user.handle}/finder").json()["latest_version"]["weights"]
    assert told["flops_for"] == size
