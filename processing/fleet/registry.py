"""Registry of workers: which are alive, how many slots serve a queue, which leases are lost.

All times are those of the database, because clocks of workers may differ.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from ipau.common import leases
from processing.models import Drain, FleetSample, Item, State, Worker

HEARTBEAT = timedelta(seconds=settings.HEARTBEAT_SECONDS)
# A worker that missed three heartbeats counts as dead.
DEAD_AFTER = 3 * HEARTBEAT
FORGOTTEN_AFTER = timedelta(hours=1)
SAMPLES_KEPT = timedelta(days=1)
MODEL_QUEUES = frozenset({"cpu", "gpu", "preview"})


@dataclass(frozen=True)
class Slot:
    """One process of a worker. It owns the leases of its claims."""

    worker: str
    pid: int


_worker_name = "here"
_worker_queues: frozenset[str] = frozenset()


def name_worker(name: str, queues: Collection[str] = ()) -> None:
    """Set the worker name and queues of this process and of slots forked from it."""
    global _worker_name, _worker_queues
    _worker_name, _worker_queues = name, frozenset(queues)


def this_worker_serves(queue: str) -> bool:
    return queue in _worker_queues


def this_worker_serves_only(queue: str) -> bool:
    return _worker_queues == {queue}


def this_worker_runs_models() -> bool:
    """Return whether this worker serves a queue that runs models."""
    return not _worker_queues.isdisjoint(MODEL_QUEUES)


def this_slot() -> Slot:
    return Slot(_worker_name, os.getpid())


def has_ended(pid: int) -> bool:
    """Return whether a slot of this worker has ended. The pid may now belong to another user's process."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return True
    return False


def record_heartbeat(
    *,
    name: str,
    queues: Collection[str],
    device: str,
    pids: Collection[int],
    started_at: datetime,
    busy: int = 0,
    drained: bool = False,
    machine: Mapping[str, Any] | None = None,
) -> None:
    """Record that a worker is alive, with its current slots and the number of busy ones."""
    Worker.objects.update_or_create(
        name=name,
        defaults={
            "queues": sorted(queues),
            "device": device,
            "slots": len(pids),
            "slot_pids": sorted(pids),
            "drained": drained,
            "machine": dict(machine or {}),
            "started_at": started_at,
            "heartbeat_at": Now(),
        },
    )
    FleetSample.objects.create(worker=name, at=Now(), slots=len(pids), busy=max(0, min(busy, len(pids))))


def should_drain(name: str) -> bool:
    """Return whether an operator has ordered this worker to take no new work."""
    return Drain.objects.filter(worker=name).exists()


def remove_worker(*, name: str) -> None:
    """Delete the row of a worker that shuts down."""
    Worker.objects.filter(name=name).delete()


def alive() -> QuerySet[Worker]:
    return Worker.objects.filter(heartbeat_at__gte=Now() - DEAD_AFTER)


def serving() -> QuerySet[Worker]:
    """The workers that take new work: alive, and not drained."""
    return alive().filter(drained=False)


def slots_of(queue: str) -> int:
    """Return how many slots serve a queue now; 0 when no worker does."""
    return sum(serving().filter(queues__contains=queue).values_list("slots", flat=True))


def is_served(queue: str) -> bool:
    return serving().filter(queues__contains=queue).exists()


def served_queues() -> dict[str, int]:
    """Return the number of slots by queue. Queues that no worker serves are missing."""
    slots: dict[str, int] = {}
    for queues, number in serving().values_list("queues", "slots"):
        for queue in queues:
            slots[queue] = slots.get(queue, 0) + number
    return slots


def delete_old_rows() -> None:
    Worker.objects.filter(heartbeat_at__lt=Now() - FORGOTTEN_AFTER).delete()
    FleetSample.objects.filter(at__lt=Now() - SAMPLES_KEPT).delete()


# A lease is lost when it has expired, when its worker sends no heartbeats, or when a heartbeat after the
# claim does not list the slot.
_LOST = f"""
    SELECT item.id, item.lease_token
    FROM processing_item AS item
    LEFT JOIN processing_worker AS worker ON worker.name = item.worker
    WHERE item.state = 'processing'
      AND item.worker <> ''
      AND (
        item.{leases.EXPIRED_SQL}
        OR (worker.name IS NULL
            AND item.started_at < statement_timestamp() - %(dead_after)s * interval '1 second')
        OR worker.heartbeat_at < statement_timestamp() - %(dead_after)s * interval '1 second'
        OR (worker.heartbeat_at > item.started_at + interval '1 second'
            AND NOT worker.slot_pids @> to_jsonb(item.slot))
      )
    LIMIT %(limit)s
"""  # noqa: S608  # nosec B608  # a constant of this project


def leases_of(slot: Slot) -> dict[UUID, UUID]:
    """Return the lease tokens of a slot by item id, without items that wait for a retry."""
    rows = Item.objects.filter(state=State.PROCESSING, worker=slot.worker, slot=slot.pid, error_code="")
    return {item: token for item, token in rows.values_list("pk", "lease_token") if token}


def lost_leases(*, limit: int = 1000) -> dict[UUID, UUID]:
    """Return the lease tokens of lost or expired leases, by item id."""
    with connection.cursor() as cursor:
        cursor.execute(_LOST, {"dead_after": DEAD_AFTER.total_seconds(), "limit": limit})
        return dict(cursor.fetchall())
