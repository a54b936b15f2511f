"""Tests of conversions with real workers: killed ones lose and repeat nothing, slow ones block no one."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from accounts.models import User
from drive.models import FileState
from market.models import (
    OPEN,
    Conversion,
    ConversionAccount,
    ConversionDay,
    ConversionState,
    Version,
    Weights,
)
from market.weights import conversions, tasks
from processing.models import Item, State
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.processing.factories import submit, submit_version
from tests.processing.wait_for_jobs import wait_for_end, wait_until
from tests.workers.families import samples
from tests.workers.families.models import facts_of, fixed
from tests.workers.sandbox.slow_graphs import slow_graph

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def folders() -> list[Path]:
    return list((Path(settings.DATA_DIR) / "conversions").glob("*"))


def test_a_worker_killed_while_it_converts_costs_a_lease(
    user: User, celery_worker: Callable[..., LiveWorker]
) -> None:
    shutil.rmtree(Path(settings.DATA_DIR) / "conversions", ignore_errors=True)
    graph = fixed(facts_of("detect", samples.NAMES), samples.anchors())
    file = upload(user, "finder.onnx", data=graph.read("model.onnx"))
    first = celery_worker(queues="convert")
    conversion = conversions.request_conversion(
        owner=user, file=file, name="finder", config=json.dumps({"names": list(samples.NAMES)})
    )
    wait_until(lambda: any(folder.joinpath("out").exists() for folder in folders()), "it is being converted")
    first.kill()
    conversion.refresh_from_db()
    assert (conversion.state, conversion.attempts) == (ConversionState.PROCESSING, 1)

    # As after a minute: the lease has run out, and the wake-up is long gone.
    long_ago = timezone.now() - timedelta(minutes=1)
    Conversion.objects.update(lease_expires_at=long_ago, updated_at=long_ago)
    ConversionAccount.objects.update(lease_expires_at=long_ago)
    cache.clear()
    celery_worker(queues="convert,cpu")
    tasks.sweep()

    def has_ended() -> bool:
        conversion.refresh_from_db()
        return not conversion.is_open

    wait_until(has_ended, "it was taken up again", seconds=120)
    # What the killed one left, its sandbox's temporary files included, went when the lease was taken back.
    wait_until(lambda: not folders(), "nothing is left")
    assert (conversion.state, conversion.attempts) == (ConversionState.SUCCEEDED, 2), conversion.report
    version = Version.objects.get(weights=Weights.objects.get())
    assert version == conversion.version

    # What came of it runs, on a worker that knows it only from the storage.
    job = wait_for_end(submit_version(user, version, [upload(user, "sea.jpg")]))
    item = Item.objects.get(job=job)
    assert item.state == State.SUCCEEDED, item.error
    assert {found["class"] for found in item.output["predictions"]} <= set(samples.NAMES)
    assert item.output["predictions"]


def test_slow_conversions_of_one_owner_hold_up_nobody_else(
    user: User, other_user: User, celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker(queues="convert", slots=2)
    celery_worker(queues="cpu,background", slots=2)
    for kind in ("arithmetic", "products"):
        file = upload(user, f"{kind}.onnx", data=slow_graph(kind))
        conversions.request_conversion(owner=user, file=file, name=kind)
    wait_until(lambda: of(user, ConversionState.PROCESSING), "the first is begun")
    graph = fixed(facts_of("detect", samples.NAMES), samples.anchors())
    conversions.request_conversion(
        owner=other_user,
        file=upload(other_user, "finder.onnx", data=graph.read("model.onnx")),
        name="finder",
        config=json.dumps({"names": list(samples.NAMES)}),
    )
    picture = upload(other_user, "sea.jpg")
    job = wait_for_end(submit(other_user, [picture]), seconds=30)
    assert job.state == State.SUCCEEDED

    def is_checked() -> bool:
        picture.refresh_from_db()
        return picture.state == FileState.READY

    wait_until(is_checked, "the upload is checked")
    # Theirs is done from beginning to end while the first is at work, and behind it the second one waits.
    wait_until(lambda: of(other_user, ConversionState.SUCCEEDED), "theirs is converted", seconds=120)
    assert [len(of(user, state)) for state in OPEN] == [1, 1]
    (counted,) = ConversionDay.objects.filter(owner=other_user)
    assert counted.seconds > 0


def of(owner: User, state: ConversionState) -> list[Conversion]:
    return list(Conversion.objects.filter(owner=owner, state=state).order_by("id"))
