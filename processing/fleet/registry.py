"""The fleet: which workers are alive, how many slots serve a queue, which slots have died.

All times are the database's: the clocks of workers may differ.
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

BEAT = timedelta(seconds=settings.HEARTBEAT_SECONDS)
# A worker that missed three heartbeats is taken for dead.
DEAD_AFTER = 3 * BEAT
FORGOTTEN_AFTER = timedelta(hours=1)
SAMPLES_KEPT = timedelta(days=1)
MODEL_QUEUES = frozenset({"cpu", "gpu", "preview"})


@dataclass(frozen=True)
class Slot:
    """One process of a worker: who holds a lease."""

    worker: str
    pid: int


_worker_name = "here"
_worker_queues: frozenset[str] = frozenset()


def name_worker(name: str, queues: Collection[str] = ()) -> None:
    """Tell this process, and those forked from it, whose it is, and which queues that worker serves."""
    global _worker_name, _worker_queues
    _worker_name, _worker_queues = name, frozenset(queues)


def this_worker_serves(queue: str) -> bool:
    return queue in _worker_queues


def this_worker_serves_only(queue: str) -> bool:
    return _worker_queues == {queue}


def this_worker_runs_models() -> bool:
    """Tell whether this worker serves a queue in which people's models are run over images."""
    return not _worker_queues.isdisjoint(MODEL_QUEUES)


def this_slot() -> Slot:
    return Slot(_worker_name, os.getpid())


def has_ended(pid: int) -> bool:
    """Tell whether a slot of this worker has ended. Where somebody else's process has its number, it has."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return True
    return False


def beat(
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
    """Record that a worker is alive, with the slots it has now, and how many of them work at this moment."""
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


def is_to_drain(name: str) -> bool:
    """Tell whether an operator wants this worker to take no new work."""
    return Drain.objects.filter(worker=name).exists()


def leave(*, name: str) -> None:
    """Forget a worker that stops on its own."""
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
    """Return how many slots serve each queue now; queues that nobody serves are not in it."""
    slots: dict[str, int] = {}
    for queues, number in serving().values_list("queues", "slots"):
        for queue in queues:
            slots[queue] = slots.get(queue, 0) + number
    return slots


def forget_gone() -> None:
    Worker.objects.filter(heartbeat_at__lt=Now() - FORGOTTEN_AFTER).delete()
    FleetSample.objects.filter(at__lt=Now() - SAMPLES_KEPT).delete()


# A lease is lost when its worker is silent, or has beaten since the claim without naming the slot.
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
"""  # noqa: S608  (a constant of ours)


def leases_of(slot: Slot) -> dict[UUID, UUID]:
    """Return the lease tokens, by the item's id, that a slot holds, save of those that wait for a retry."""
    rows = Item.objects.filter(state=State.PROCESSING, worker=slot.worker, slot=slot.pid, error_code="")
    return {item: token for item, token in rows.values_list("pk", "lease_token") if token}


def lost_leases(*, limit: int = 1000) -> dict[UUID, UUID]:
    """Return the lease tokens, by the item's id, whose holder is gone or overdue."""
    with connection.cursor() as cursor:
        cursor.execute(_LOST, {"dead_after": DEAD_AFTER.total_seconds(), "limit": limit})
        return dict(cursor.fetchall())
