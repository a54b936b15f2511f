"""Configuration checks of a worker before it takes work. A wrong one would silently lose or repeat work."""

import logging
import re
from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from drive.models import Blob
from processing.fleet import queues as fleet_queues
from workers import devices

logger = logging.getLogger(__name__)

# Exit status for a wrong configuration (EX_CONFIG of sysexits.h). A supervisor need not restart at once.
REFUSED = 78
# Required by claims and leases: they tolerate lost or duplicate messages, but not lost acknowledgments.
_REQUIRED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "task_ignore_result": True,
}


def check_worker(app: Any, queues: Collection[str]) -> None:
    """Log each configuration problem and end this process if there is one.

    Raises:
        SystemExit: with status 78. Celery logs any other exception here and goes on.
    """
    sentences = list(problems(app, queues))
    if not sentences:
        return
    for sentence in sentences:
        logger.critical("This worker cannot start: %s", sentence)
    raise SystemExit(REFUSED)


def problems(app: Any, queues: Collection[str] = ()) -> Iterator[str]:
    """Yield a sentence for each problem of this worker's configuration and of the services it needs.

    Args:
        queues: the queues that it serves.
    """
    yield from _wrong_settings(app.conf)
    if fleet_queues.GPU_QUEUE in queues:
        yield from _missing_gpu(settings.GPU_DEVICE)
    yield from _short_visibility(app)
    try:
        connection.ensure_connection()
        yield from _missing_migrations()
        yield from _foreign_storage()
    except DatabaseError as error:
        yield f"the database does not respond ({error})."
    finally:
        connection.close()


def _wrong_settings(conf: Any) -> Iterator[str]:
    for name, required in _REQUIRED.items():
        if conf[name] != required:
            yield f"Celery's {name} must be {required}, not {conf[name]}."
    if not 0 <= settings.SLOT_CACHE_BYTES <= settings.SLOT_MEMORY_BYTES // 2:
        # The slot needs the rest for images: one of 50 megapixels takes several hundred MB.
        yield "IPAU_SLOT_CACHE_BYTES must be at most half of IPAU_SLOT_MEMORY_BYTES."
    if connection.vendor != "postgresql":
        yield "the database must be PostgreSQL."
    if not str(conf.broker_url).startswith(("redis://", "rediss://", "redis+socket://", "unix://")):
        yield "the broker must be Redis or Valkey."


def _missing_gpu(device: str) -> Iterator[str]:
    """Yield problems of the GPU. Without a working one, every job of a model would fail on this worker."""
    if not re.fullmatch(r"torch-cpu|cuda(:\d+)?", device):
        yield f"IPAU_GPU_DEVICE must be cuda, cuda:1 and so on, or torch-cpu, not {device}."
    if not device.startswith("cuda"):
        return
    if not devices.has_gpu():
        yield "it serves the queue gpu, but this machine has no NVIDIA GPU."
    elif devices.find_cuda_build() is None:
        yield "it serves the queue gpu, but its torch was built without CUDA: see docs/how-to/gpu.md."


def _short_visibility(app: Any) -> Iterator[str]:
    """Yield a problem if a task can outlast the visibility timeout. It would run twice: a harmless waste."""
    timeout = app.conf.broker_transport_options.get("visibility_timeout", 3600)
    longest = max((task.time_limit or 0 for task in app.tasks.values()), default=0)
    if timeout <= longest:
        yield f"visibility_timeout ({timeout} s) must be longer than the longest task ({longest} s)."


def _missing_migrations() -> Iterator[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        yield f"{len(plan)} migrations are not applied to the database: run ./manage.py migrate."


def _foreign_storage() -> Iterator[str]:
    """Yield a problem if the storage is not the site's. Images would fail, or results would be missing."""
    recent = list(Blob.objects.order_by("-touched_at")[:3])
    if recent and not any(_has(blob.path) for blob in recent):
        yield "its storage does not have the site's files: use the same folder or bucket as the site."


def _has(path: str) -> bool:
    try:
        return default_storage.exists(path)
    except OSError as error:
        logger.warning("The storage does not respond: %s", error)
        return False
