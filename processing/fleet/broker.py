"""What waits in the broker. Advice for the sweep; no decision about work depends on it."""

from functools import cache
from typing import Any

import redis
from django.conf import settings


def depth(queue: str) -> int:
    """Return how many messages wait in a queue, those already handed to a worker not counted."""
    waiting: Any = _broker().llen(queue)
    return int(waiting)


def drop(queue: str) -> None:
    """Forget what waits in a queue."""
    _broker().delete(queue)


@cache
def _broker() -> "redis.Redis":
    return redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_connect_timeout=3, socket_timeout=5)
