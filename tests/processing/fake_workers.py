"""Fake workers: rows in the table of workers without a process."""

from collections.abc import Collection
from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone

from processing.fleet import registry
from processing.models import Worker


def stand_in(*queues: str, name: str = "w@here", pids: Collection[int] = (1,)) -> None:
    """Record a worker of these queues that stays alive for the whole test, however slow the machine is."""
    registry.record_heartbeat(name=name, queues=queues, device="cpu", pids=pids, started_at=timezone.now())
    Worker.objects.filter(name=name).update(heartbeat_at=Now() + timedelta(hours=1))
