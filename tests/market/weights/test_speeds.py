"""Speeds of weights in jobs: pages, API, visibility and database constraints."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from market.models import Conversion, JobSpeed, Listing, Version, Weights
from market.weights import services, speeds, trials
from market.weights.speeds import SpeedText, describe_speeds
from tests.market.factories import marks, model
from tests.market.weights.fake_sandbox import tried
from workers.devices import Device

pytestmark = pytest.mark.django_db
CPU, GPU = Device("cpu", "AMD EPYC 9B14"), Device("gpu", "NVIDIA H100 80GB HBM3")


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def weights_of(version: Version) -> Weights:
    assert version.weights is not None
    return version.weights


def add(version: Version, device: Device = CPU, *, pictures: int = 4, each: float = 50.0) -> None:
    speeds.add_pictures(
        digest=weights_of(version).digest,
        device=device,
        pictures=pictures,
        run_ms=30.0 * pictures,
        slot_ms=each * pictures,
    )


def words(answer: Any) -> str:
    """Return the text of a page without markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_figures_of_a_device_add_up_in_one_row(user: User) -> None:
    version = model(user)
    add(version, pictures=4, each=50)
    add(version, pictures=12, each=90)
    add(version, GPU, pictures=1000, each=3.25)
    on_cpu, on_gpu = JobSpeed.objects.all()
    assert (on_cpu.kind, on_cpu.device, on_cpu.pictures) == ("cpu", CPU.name, 16)
    assert (on_cpu.each_ms, on_cpu.each_run_ms) == (80, 30)
    assert (on_gpu.kind, on_gpu.pictures, on_gpu.each_ms) == ("gpu", 1000, 3.25)
    assert on_cpu.updated_at > on_cpu.created_at


def test_deleted_weights_are_ignored() -> None:
    speeds.add_pictures(digest="0" * 64, device=CPU, pictures=1, run_ms=1, slot_ms=1)
    assert not JobSpeed.objects.exists()


@pytest.mark.parametrize("changes", [{"pictures": 0}, {"run_ms": -1}, {"slot_ms": -1}, {"kind": "tpu"}])
def test_inconsistent_rows_are_refused(user: User, changes: dict[str, object]) -> None:
    add(model(user))
    with pytest.raises(IntegrityError), transaction.atomic():
        JobSpeed.objects.update(**changes)


def test_speeds_are_deleted_with_their_weights(user: User) -> None:
    add(model(user))
    services.delete_model(owner=user, name="finder")
    assert not JobSpeed.objects.exists()


def test_speeds_of_jobs_and_trial_are_merged_by_device(user: User) -> None:
    version = model(user)
    trials.keep_trial(weights=weights_of(version), tried=trials.StoredTrial(tried(shown=()), CPU.name))
    add(version, GPU, pictures=2000, each=3.25)
    assert describe_speeds(weights_of(version)) == [
        SpeedText(CPU.name, "310 ms", "45 ms", "450 × 300"),
        SpeedText(GPU.name, each="3.2 ms", pictures=2000),
    ]
    add(version, CPU, pictures=3, each=1500)
    assert describe_speeds(Weights.objects.get())[0] == SpeedText(
        CPU.name, "310 ms", "45 ms", "450 × 300", "1.5 s", 3
    )


# --- Who is told, and how.


def test_listing_and_report_show_speeds(user: User, client_of: Callable[[User], Client]) -> None:
    version = model(user)
    trials.keep_trial(weights=weights_of(version), tried=trials.StoredTrial(tried(shown=()), CPU.name))
    add(version, pictures=1, each=52)
    add(version, GPU, pictures=2000, each=3.25)
    client = client_of(user)
    for path in (
        f"/apps/{user.handle}/finder/?tab=about",
        f"/models/conversions/{Conversion.objects.get().pk}/",
    ):
        page = words(client.get(path))
        assert "Device Trial: first image Later images In jobs" in page
        assert f"{CPU.name} trial at 450 × 300 pixels 310 ms 45 ms 52 ms 1 image" in page
        assert f"{GPU.name} – – 3.2 ms 2,000 images" in page


def test_own_list_names_the_busiest_device(user: User, client_of: Callable[[User], Client]) -> None:
    version = model(user)
    client = client_of(user)
    assert "per image in jobs" not in words(client.get("/models/"))
    add(version, pictures=3, each=52)
    add(version, GPU, pictures=2000, each=3.25)
    assert f"· 3.2 ms per image in jobs on {GPU.name}" in words(client.get("/models/"))


def test_a_name_of_a_device_is_escaped(user: User, client_of: Callable[[User], Client]) -> None:
    add(model(user), Device("cpu", "<script>alert(1)</script>" + "x" * 200))
    for path in ("/models/", f"/apps/{user.handle}/finder/?tab=about"):
        page = client_of(user).get(path).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_the_api_returns_speeds_of_every_version(user: User, api: Callable[..., APIClient]) -> None:
    version = model(user)
    assert (
        api(user).get(f"/v1/models/{user.handle}/finder").json()["latest_version"]["weights"]["job_speeds"]
        == []
    )
    add(version, pictures=4, each=50)
    add(version, GPU, pictures=2000, each=3.25)
    told = [
        {"kind": "cpu", "device": CPU.name, "pictures": 4, "each_ms": 50.0, "run_ms": 30.0},
        {"kind": "gpu", "device": GPU.name, "pictures": 2000, "each_ms": 3.25, "run_ms": 30.0},
    ]
    client = api(user)
    one = client.get(f"/v1/models/{user.handle}/finder").json()
    (listed,) = [row for row in client.get("/v1/models").json()["results"] if row["name"] == "finder"]
    (release,) = client.get(f"/v1/models/{user.handle}/finder/versions").json()["results"]
    for weights in (
        one["latest_version"]["weights"],
        listed["latest_version"]["weights"],
        release["weights"],
    ):
        assert weights["job_speeds"] == told


def test_models_with_the_same_weights_share_speeds(
    user: User, other_user: User, api: Callable[..., APIClient], client_of: Callable[[User], Client]
) -> None:
    """Two accounts have the same weights: both models show the sum of both."""
    mine, theirs = model(user), model(other_user, "theirs", publish=True)
    assert mine.weights_id == theirs.weights_id
    add(mine, pictures=7)
    hidden, shown = f"{user.handle}/finder", f"{other_user.handle}/theirs"
    assert api(other_user).get(f"/v1/models/{hidden}").status_code == 404
    assert client_of(other_user).get(f"/apps/{hidden}/").status_code == 404
    weights = api(other_user).get(f"/v1/models/{shown}").json()["latest_version"]["weights"]
    assert [speed["pictures"] for speed in weights["job_speeds"]] == [7]
    assert "50 ms 7 images" in words(Client().get(f"/apps/{shown}/?tab=about"))
    Listing.objects.filter(pk=theirs.listing_id).update(taken_down=True)
    assert Client().get(f"/apps/{shown}/?tab=about").status_code == 404


def test_pages_have_a_constant_number_of_queries(
    user: User, client_of: Callable[[User], Client], api: Callable[..., APIClient]
) -> None:
    visits = [
        (client_of(user), "/models/"),
        (client_of(user), f"/apps/{user.handle}/finder/?tab=about"),
        (api(user), "/v1/models"),
    ]
    first = model(user)
    for client, path in visits:
        client.get(path)
    counts = []
    for number in range(2):
        other = model(user, f"other-{number}", sure=(80, number))
        for version in (first, other):
            for device in (CPU, GPU, Device("cpu", f"Another {number}")):
                add(version, device)
        with CaptureQueriesContext(connection) as queries:
            for client, path in visits:
                assert client.get(path).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
