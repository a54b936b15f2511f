"""What a worker looks at before it takes work: a wrong configuration would lose or repeat work quietly."""

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

# Exit status for a wrong configuration (EX_CONFIG of sysexits.h): a supervisor need not try again at once.
REFUSED = 78
# What the design rests on: claims and leases bear a lost or doubled message, not a lost acknowledgement.
_NEEDED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "task_ignore_result": True,
}


def check_worker(app: Any, queues: Collection[str]) -> None:
    """Stop this process with a sentence for each thing that is wrong.

    Raises:
        SystemExit: with status 78. Celery logs any other exception here and goes on.
    """
    found = list(problems(app, queues))
    if not found:
        return
    for sentence in found:
        logger.critical("This worker does not start: %s", sentence)
    raise SystemExit(REFUSED)


def problems(app: Any, queues: Collection[str] = ()) -> Iterator[str]:
    """Yield what is wrong with this worker's configuration; looks at the services it needs too.

    Args:
        queues: those that it takes work from.
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
        yield f"the database does not answer ({error})."
    finally:
        connection.close()


def _wrong_settings(conf: Any) -> Iterator[str]:
    for name, needed in _NEEDED.items():
        if conf[name] != needed:
            yield f"Celery's {name} must be {needed}, not {conf[name]}."
    if not 0 <= settings.SLOT_CACHE_BYTES <= settings.SLOT_MEMORY_BYTES // 2:
        # What else a slot does needs memory too: a picture of 50 megapixels takes some hundred MB.
        yield "IPAU_SLOT_CACHE_BYTES must be at most half of IPAU_SLOT_MEMORY_BYTES."
    if connection.vendor != "postgresql":
        yield "the database must be PostgreSQL."
    if not str(conf.broker_url).startswith(("redis://", "rediss://", "redis+socket://", "unix://")):
        yield "the broker must be Redis or Valkey."


def _missing_gpu(device: str) -> Iterator[str]:
    """Without one every job of a model would fail here, while workers without a GPU could do them."""
    if not re.fullmatch(r"torch-cpu|cuda(:\d+)?", device):
        yield f"IPAU_GPU_DEVICE must be cuda, cuda:1 and so on, or torch-cpu, not {device}."
    if not device.startswith("cuda"):
        return
    if not devices.has_gpu():
        yield "it serves the queue gpu, but this machine shows no NVIDIA GPU."
    elif devices.find_cuda_build() is None:
        yield "it serves the queue gpu, but its torch was built without CUDA: see docs/how-to/gpu.md."


def _short_visibility(app: Any) -> Iterator[str]:
    """A task that outlives the visibility timeout runs again beside itself: harmless, but a waste."""
    timeout = app.conf.broker_transport_options.get("visibility_timeout", 3600)
    longest = max((task.time_limit or 0 for task in app.tasks.values()), default=0)
    if timeout <= longest:
        yield f"visibility_timeout ({timeout} s) must be longer than the longest task ({longest} s)."


def _missing_migrations() -> Iterator[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        yield f"the database lacks {len(plan)} migrations: run ./manage.py migrate."


def _foreign_storage() -> Iterator[str]:
    """A worker whose storage is not the site's would fail every picture, or hide its results."""
    known = list(Blob.objects.order_by("-touched_at")[:3])
    if known and not any(_has(blob.path) for blob in known):
        yield "its storage lacks the site's files: it must use the same folder or bucket."


def _has(path: str) -> bool:
    try:
        return default_storage.exists(path)
    except OSError as error:
        logger.warning("The storage does not answer: %s", error)
        return False
