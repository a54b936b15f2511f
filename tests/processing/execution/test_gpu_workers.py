"""Jobs on real workers of the queue `gpu`, with torch on the processor."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from accounts.models import User
from drive.models import File
from drive.storage import blobs
from market.models import JobSpeed, Version
from market.weights.install import install_model
from processing import services
from processing.execution import tasks
from processing.models import Item, Job, State
from tests.live import LiveWorker
from tests.processing import crashing_operation
from tests.processing.execution.test_lease_renewal import poisoned, wait_until_gone
from tests.processing.factories import FRESH, on_gpu, states, submit_version, take_turns
from tests.processing.wait_for_jobs import assert_each_result_once, fill, wait_for_end, wait_for_running_item
from tests.workers.families import rebuilt

StartWorker = Callable[..., LiveWorker]
pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def model_of(user: User, name: str, folder: Path) -> Version:
    """Return a version of a converted model that the user owns."""
    folder.mkdir()
    rebuilt.convert(name, folder)
    return install_model(owner=user, folder=folder, name=name, title=name, summary="", description="")


def results(job: Job) -> list[bytes]:
    rows = File.objects.filter(made_by__item__job=job).order_by("made_by__item__position")
    return [blobs.read(blob) for blob in rows.values_list("blob", flat=True)]


def test_gpu_queue_gives_the_same_results_as_cpu(
    user: User, celery_worker: StartWorker, tmp_path: Path
) -> None:
    """Torch runs on the processor if there is no GPU, with the same turns, threads and batches."""
    version = model_of(user, "compact", tmp_path / "model")
    files = fill(user, 12, side=96)
    on_cpu = submit_version(user, version, files, terms=FRESH)
    assert on_cpu.queue == "cpu"
    celery_worker(queues="gpu", IPAU_GPU_DEVICE="torch-cpu", IPAU_GPU_THREADS="3")
    on_gpu = submit_version(user, version, files, terms=FRESH)
    assert on_gpu.queue == "gpu"
    wait_for_end(on_gpu, sweep=False)
    assert_each_result_once(on_gpu)
    assert set(Item.objects.filter(job=on_gpu).values_list("device", flat=True)) == {"gpu"}
    take_turns(user)
    by_torch, by_onnx = JobSpeed.objects.order_by("-device")
    assert (by_torch.device, by_torch.pictures) == (f"{by_onnx.device} (torch)", 12)
    assert by_onnx.pictures == 12
    first, second = results(on_gpu), results(on_cpu)
    assert len(first) == len(second) == 12
    same = sum(one == other for one, other in zip(first, second, strict=True))
    print(f"\n{same} of 12 results are the same to the byte.")
    assert same > 0


def test_cancel_kills_the_slot_of_a_stuck_thread_and_the_next_job_runs(
    user: User, celery_worker: StartWorker
) -> None:
    worker = celery_worker(
        queues="gpu", include="tests.processing.worker_with_crashing_operation", IPAU_GPU_DEVICE="torch-cpu"
    )
    (pid,) = worker.slot_pids()
    job = on_gpu(poisoned(user, crashing_operation.STUCK))
    tasks.send_turns(owner_id=user.pk, queue="gpu", number=1)
    wait_for_running_item(job)
    time.sleep(1)
    services.cancel_job(owner=user, job_id=job.pk)
    wait_until_gone(pid)
    after = on_gpu(poisoned(user, crashing_operation.WELL))
    tasks.send_turns(owner_id=user.pk, queue="gpu", number=1)
    wait_for_end(after)
    assert states(job) == [State.CANCELED]


def test_stuck_thread_kills_its_slot_and_the_job_completes(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker(
        queues="gpu",
        include="tests.processing.worker_with_crashing_operation",
        IPAU_GPU_DEVICE="torch-cpu",
        IPAU_ITEM_SECONDS="2",
    )
    (pid,) = worker.slot_pids()
    job = on_gpu(
        poisoned(
            user,
            crashing_operation.WELL,
            crashing_operation.STUCK,
            crashing_operation.WELL,
            crashing_operation.WELL,
        )
    )
    tasks.send_turns(owner_id=user.pk, queue="gpu", number=1)
    wait_for_end(job, seconds=90)
    wait_until_gone(pid)
    failed = Item.objects.filter(job=job, state=State.FAILED)
    assert list(failed.values_list("position", "error_code", "attempts")) == [(1, "too_slow", 1)]
    job.refresh_from_db()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 3)
