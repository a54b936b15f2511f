"""Tests of preview workers that die: the client gets the preview or the reason."""

import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from processing.previews import channel
from processing.previews import tasks as previews_tasks
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from tests.processing.wait_for_jobs import wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Where each run of the poison leaves a line."""
    return tmp_path / "ran"


@pytest.fixture
def worker(celery_worker: Callable[..., LiveWorker], ran: Path) -> LiveWorker:
    ran.touch()
    return celery_worker(
        queues="preview",
        slots=2,
        include="tests.processing.worker_with_crashing_operation",
        **{crashing_operation.LOG: str(ran)},
    )


def ask(width: int) -> str:
    """Ask for a preview by the poison of a picture that is not in the drive."""
    request_id = uuid.uuid4().hex
    ticket = channel.store_image(picture_bytes("PNG", width=width, height=40))
    assert previews_tasks.send_preview(
        request_id, f"key {request_id}", {"ticket": ticket}, crashing_operation.RECIPE, {}
    )
    return request_id


def answer_to(request_id: str) -> channel.Answer:
    found = channel.wait_for(request_id, seconds=channel.REQUEST_TIMEOUT_SECONDS)
    assert found is not None
    return found


def test_a_preview_whose_slot_is_killed_is_made_by_another(worker: LiveWorker, ran: Path) -> None:
    request_id = ask(crashing_operation.SLOW)
    wait_until(ran.read_text, "the preview has not begun")
    holder = next(pid for pid in worker.slot_pids() if channel.valkey().exists(held(worker, pid)))
    os.kill(holder, signal.SIGKILL)
    assert answer_to(request_id).body
    assert len(ran.read_text().splitlines()) == 2


def test_a_picture_that_ends_each_slot_is_given_up_and_says_so(worker: LiveWorker, ran: Path) -> None:
    begun = time.monotonic()
    found = answer_to(ask(crashing_operation.KILLS))
    # Celery alone sees the end of a slot up to five seconds late, which two of them would wait for.
    assert time.monotonic() - begun < 8
    assert (found.error_code, found.body) == ("worker_lost", b"")
    assert "stopped the worker" in found.error
    assert len(ran.read_text().splitlines()) == 2
    assert answer_to(ask(crashing_operation.WELL)).body


def held(worker: LiveWorker, pid: int) -> str:
    return f"ipau:preview:held:{worker.name}/{pid}"
