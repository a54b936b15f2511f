"""Worker start-up, heartbeat and shutdown, connected to Celery signals.

Every few seconds the main process of a worker reports its slots and their load, and reads whether it is
drained. The handlers are connected in every process that loads Django, but only Celery workers send the
signals.
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
def lift_gpu_memory_limit(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Disable Celery's memory limit for slots with a GPU. The driver needs far more; `limit_slot` applies."""
    queues = options.get("queues") or ()
    if fleet_queues.GPU_QUEUE in (queues.split(",") if isinstance(queues, str) else queues):
        conf.worker_max_memory_per_child = None


@worker_init.connect
def prepare_worker(sender: Any, **_: Any) -> None:
    """Prepare a worker before it forks slots: check the configuration, load operations, set its name."""
    queues = list(sender.app.amqp.queues.consume_from)
    startup_checks.check_worker(sender.app, queues)
    registry.discover()
    fleet.name_worker(sender.hostname, queues)
    if fleet.this_worker_runs_models():
        # All slots share it, so the first model of a slot starts without delay.
        model_process.start_launcher()
    # All these objects stay. Otherwise a full collection would scan them in every slot, for 0.1 s.
    gc.collect()
    gc.freeze()


@worker_process_init.connect
def limit_slot(**_: Any) -> None:
    """Limit the memory of a slot, so that a decompression bomb fails one image and not the machine."""
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
    heartbeat = Heartbeat(sender)
    heartbeat.beat()
    sender.timer.call_repeatedly(fleet.HEARTBEAT.total_seconds(), heartbeat.beat)


@worker_shutdown.connect
def end_heartbeat(sender: Any, **_: Any) -> None:
    _sign_off(sender.hostname)
    try:
        fleet.remove_worker(name=sender.hostname)
    except DatabaseError:
        logger.warning("Could not sign off %s; it is removed when its heartbeats stop", sender.hostname)
    finally:
        connection.close()


def _sign_off(name: str) -> None:
    if not fleet.this_worker_serves_only(channel.QUEUE):
        return
    try:
        preview_queue.sign_off(name)
    except channel.ChannelError:
        logger.warning("Could not sign off %s from previews; it is removed when its heartbeats stop", name)


class Heartbeat:
    """Heartbeat of one worker. Runs in its event loop, so that it may change the consumed queues."""

    def __init__(self, consumer: Any):
        self._consumer = consumer
        self._queues: Sequence[str] = [queue.name for queue in consumer.task_consumer.queues]
        self._started_at: datetime = timezone.now()
        self._device = devices.detect()
        self._machine = devices.describe()
        self._drained = False

    def beat(self) -> None:
        """Report the state of this worker, and stop or resume taking work as an operator has ordered."""
        try:
            self._apply_drain(fleet.should_drain(self._consumer.hostname))
            self._report()
        except DatabaseError:
            name = self._consumer.hostname
            logger.warning("Could not record the heartbeat of %s in the database", name, exc_info=True)
        finally:
            # Slots are forked from this process; an open connection would be shared with them.
            connection.close()

    def _report(self) -> None:
        pids = _slot_pids(self._consumer)
        fleet.record_heartbeat(
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
        """Report the slots to the preview queue; return how many of them only wait for a preview.

        Workers of other queues return 0 at once: the heartbeat protects their leases and must not wait for
        Valkey.
        """
        if not fleet.this_worker_serves_only(channel.QUEUE):
            return 0
        name = self._consumer.hostname
        try:
            preview_queue.sign_on(name, slots=0 if self._drained else slots)
            return preview_queue.waiting(name)
        except channel.ChannelError:
            logger.warning("Cannot read which slots of %s wait for a preview", name, exc_info=True)
            return 0

    def _apply_drain(self, drain: bool) -> None:
        """Stop or resume taking messages. Running turns end as usual."""
        if drain == self._drained:
            return
        for queue in self._queues:
            if drain:
                self._consumer.cancel_task_queue(queue)
            else:
                self._consumer.add_task_queue(queue)
        self._drained = drain
        logger.info("%s %s", self._consumer.hostname, "is drained" if drain else "resumes work")


def _slot_pids(consumer: Any) -> list[int]:
    slots = getattr(getattr(consumer.pool, "_pool", None), "_pool", None)
    return [process.pid for process in slots] if slots else [os.getpid()]
