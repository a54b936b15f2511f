"""Queue `gpu`: which jobs use it, when they move to `cpu`, and the start-up checks of its workers."""

import time
from collections.abc import Iterator

import pytest
from celery import current_app
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from processing.execution import tasks, work
from processing.fleet import registry as fleet
from processing.job_queue import gpu_fallback
from processing.jobs import prepare
from processing.models import State
from processing.worker import startup_checks
from tests.processing import crashing_operation
from tests.processing.execution.test_lease_renewal import poisoned
from tests.processing.factories import on_gpu, states
from workers import devices, registry
from workers.recipe import Recipe

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _poison(settings: Settings) -> Iterator[None]:
    settings.GPU_DEVICE = "torch-cpu"
    with registry.register(crashing_operation.Poison()):
        yield


def serve(*queues: str) -> None:
    fleet.record_heartbeat(name="there", queues=queues, device="gpu", pids=[1], started_at=timezone.now())


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("family", "queue"), [("yolo", "gpu"), ("gan", "gpu"), ("vit", "gpu"), ("onnx", "cpu")]
)
def test_models_prefer_a_served_gpu_queue(family: str, queue: str) -> None:
    recipe = Recipe.single(family, weights="0" * 64)
    assert prepare._queue(recipe) == "cpu"
    serve("cpu", "gpu")
    assert prepare._queue(recipe) == queue
    assert prepare._queue(Recipe(steps=(*recipe.steps, *Recipe.single("blackwhite").steps))) == queue


@committed
def test_jobs_move_to_cpu_when_the_gpu_is_missing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_fallback, "GRACE_SECONDS", 0.3)
    job = on_gpu(poisoned(user, crashing_operation.WELL))
    serve("gpu")
    assert gpu_fallback.move_jobs_to_cpu() == 0
    fleet.remove_worker(name="there")
    assert gpu_fallback.move_jobs_to_cpu() == 0
    serve("gpu")
    assert gpu_fallback.move_jobs_to_cpu() == 0
    fleet.remove_worker(name="there")
    assert gpu_fallback.move_jobs_to_cpu() == 0
    time.sleep(0.4)
    tasks.sweep()
    job.refresh_from_db()
    assert job.queue == "cpu"
    work.take_turn(user.pk, "cpu")
    assert states(job) == [State.SUCCEEDED]


@committed
def test_gpu_worker_needs_a_gpu(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[str]:
        return list(startup_checks.problems(current_app, ["gpu"]))

    assert found() == []
    settings.GPU_DEVICE = "gpu"
    assert found() == ["IPAU_GPU_DEVICE must be cuda, cuda:1 and so on, or torch-cpu, not gpu."]
    settings.GPU_DEVICE = "cuda:1"
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    assert found() == ["it serves the queue gpu, but this machine has no NVIDIA GPU."]
    assert list(startup_checks.problems(current_app, ["cpu"])) == []
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(devices, "find_cuda_build", lambda: None)
    (sentence,) = found()
    assert "built without CUDA" in sentence
    monkeypatch.setattr(devices, "find_cuda_build", lambda: "13.0")
    assert found() == []
