"""The heartbeat of a worker: its main process tells every few seconds which slots it has and how busy they
are, and learns whether it is to take new work.

Connected in every process that loads Django; only a Celery worker sends these signals.
"""

import gc
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery.signals import celeryd_init, worker_init, worker_process_init, worker_ready, worker_shutdown
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from processing.fleet import queues as fleet_queues
from processing.fleet import registry as fleet
from processing.fleet import slot_memory
from processing.previews import channel
from processing.previews import queue as preview_queue
from processing.worker import startup_checks
from workers import devices, registry
from workers.cache import PROCESS_CACHE
from workers.inference import model_process

logger = logging.getLogger(__name__)


@celeryd_init.connect
def let_gpu_slots_grow(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Slots beside a GPU hold what its driver needs, far more than others. They have a limit of their own."""
    queues = options.get("queues") or ()
    if fleet_queues.GPU_QUEUE in (queues.split(",") if isinstance(queues, str) else queues):
        conf.worker_max_memory_per_child = None


@worker_init.connect
def prepare_worker(sender: Any, **_: Any) -> None:
    """Before slots are forked: refuse a wrong configuration, load every operation once, and let slots know
    whose they are."""
    queues = list(sender.app.amqp.queues.consume_from)
    startup_checks.check_worker(sender.app, queues)
    registry.discover()
    fleet.name_worker(sender.hostname, queues)
    if fleet.this_worker_runs_models():
        # Its slots share it. They begin without what they would wait for at the first model.
        model_process.start_launcher()
    # All of this stays. A full collection would walk over it, for a tenth of a second, in every slot.
    gc.collect()
    gc.freeze()


@worker_process_init.connect
def limit_slot(**_: Any) -> None:
    """A slot has its own memory limit, so that a bomb takes one picture and not the machine."""
    if fleet.this_worker_serves(fleet_queues.GPU_QUEUE):
        limit = settings.GPU_SLOT_MEMORY_BYTES
        devices.limit_data(limit)
    else:
        limit = settings.SLOT_MEMORY_BYTES
        devices.limit_memory(limit)
    model_process.limit_memory(settings.MODEL_MEMORY_BYTES)
    PROCESS_CACHE.resize(settings.SLOT_CACHE_BYTES)
    devices.reuse_pixel_memory()
    slot_memory.note_start(limit)


@worker_ready.connect
def begin_heartbeat(sender: Any, **_: Any) -> None:
    heart = Heart(sender)
    heart.beat()
    sender.timer.call_repeatedly(fleet.BEAT.total_seconds(), heart.beat)


@worker_shutdown.connect
def end_heartbeat(sender: Any, **_: Any) -> None:
    _sign_off(sender.hostname)
    try:
        fleet.leave(name=sender.hostname)
    except DatabaseError:
        logger.warning("Could not sign off; the silence of %s will tell", sender.hostname)
    finally:
        connection.close()


def _sign_off(name: str) -> None:
    if not fleet.this_worker_serves_only(channel.QUEUE):
        return
    try:
        preview_queue.sign_off(name)
    except channel.ChannelError:
        logger.warning("Could not sign off from previews; the silence of %s will tell", name)


class Heart:
    """Beats for one worker. Runs in its event loop, so that it may change what the worker consumes."""

    def __init__(self, consumer: Any):
        self._consumer = consumer
        self._queues: Sequence[str] = [queue.name for queue in consumer.task_consumer.queues]
        self._started_at: datetime = timezone.now()
        self._device = devices.detect()
        self._machine = devices.describe()
        self._drained = False

    def beat(self) -> None:
        """Say how this worker is, and stop or begin to take work as an operator wishes."""
        try:
            self._follow(fleet.is_to_drain(self._consumer.hostname))
            self._tell()
        except DatabaseError:
            name = self._consumer.hostname
            logger.warning("The database did not take the heartbeat of %s", name, exc_info=True)
        finally:
            # Slots are forked from this process; an open connection would be shared with them.
            connection.close()

    def _tell(self) -> None:
        pids = _slot_pids(self._consumer)
        fleet.beat(
            name=self._consumer.hostname,
            queues=self._queues,
            device=self._device.kind,
            pids=pids,
            started_at=self._started_at,
            busy=len(state.active_requests) - self._waiting(len(pids)),
            drained=self._drained,
            machine=self._machine,
        )

    def _waiting(self, slots: int) -> int:
        """Return how many slots hold a task only to wait for a preview. Tell the queue how many there are.

        Those of other workers never do, and their heartbeat must not wait for Valkey: it keeps their leases.
        """
        if not fleet.this_worker_serves_only(channel.QUEUE):
            return 0
        name = self._consumer.hostname
        try:
            preview_queue.sign_on(name, slots=0 if self._drained else slots)
            return preview_queue.waiting(name)
        except channel.ChannelError:
            logger.warning("Cannot tell which slots of %s wait for a preview", name, exc_info=True)
            return 0

    def _follow(self, drain: bool) -> None:
        """Turns under way end as always; a drained worker only takes no new message."""
        if drain == self._drained:
            return
        for queue in self._queues:
            if drain:
                self._consumer.cancel_task_queue(queue)
            else:
                self._consumer.add_task_queue(queue)
        self._drained = drain
        logger.info("%s %s", self._consumer.hostname, "is drained" if drain else "takes work again")


def _slot_pids(consumer: Any) -> list[int]:
    slots = getattr(getattr(consumer.pool, "_pool", None), "_pool", None)
    return [process.pid for process in slots] if slots else [os.getpid()]
