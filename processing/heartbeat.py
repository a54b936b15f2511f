"""The heartbeat of a worker: its main process tells every few seconds which slots it has.

Connected in every process that loads Django; only a Celery worker sends these signals.
"""

import logging
import os
from datetime import datetime
from typing import Any

from celery.signals import worker_init, worker_process_init, worker_ready, worker_shutdown
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from processing import fleet
from workers import devices, registry

logger = logging.getLogger(__name__)


@worker_init.connect
def prepare_worker(sender: Any, **_: Any) -> None:
    """Before slots are forked: load every operation once, and let slots know whose they are."""
    registry.discover()
    fleet.name_worker(sender.hostname)


@worker_process_init.connect
def limit_slot(**_: Any) -> None:
    """A slot has its own memory limit, so that a bomb takes one picture and not the machine."""
    devices.limit_memory(settings.SLOT_MEMORY_BYTES)
    devices.reuse_pixel_memory()


@worker_ready.connect
def begin_heartbeat(sender: Any, **_: Any) -> None:
    started_at = timezone.now()

    def beat() -> None:
        _beat(sender, started_at)

    beat()
    sender.timer.call_repeatedly(fleet.BEAT.total_seconds(), beat)


@worker_shutdown.connect
def end_heartbeat(sender: Any, **_: Any) -> None:
    try:
        fleet.leave(name=sender.hostname)
    except DatabaseError:
        logger.warning("Could not sign off; the silence of %s will tell", sender.hostname)
    finally:
        connection.close()


def _beat(consumer: Any, started_at: datetime) -> None:
    try:
        fleet.beat(
            name=consumer.hostname,
            queues=[queue.name for queue in consumer.task_consumer.queues],
            device="cpu",
            pids=_slot_pids(consumer),
            started_at=started_at,
        )
    except DatabaseError:
        logger.warning("The database did not take the heartbeat of %s", consumer.hostname, exc_info=True)
    finally:
        # Slots are forked from this process; an open connection would be shared with them.
        connection.close()


def _slot_pids(consumer: Any) -> list[int]:
    slots = getattr(getattr(consumer.pool, "_pool", None), "_pool", None)
    return [process.pid for process in slots] if slots else [os.getpid()]
