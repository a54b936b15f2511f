"""Messages that wait in the broker. A hint for the sweep and metrics; items in the database decide."""

from functools import cache
from typing import Any

import redis
from django.conf import settings


def depth(queue: str) -> int:
    """Return the number of messages in a queue, without those that a worker has already received."""
    waiting: Any = _broker().llen(queue)
    return int(waiting)


def drop(queue: str) -> None:
    """Delete all waiting messages of a queue."""
    _broker().delete(queue)


@cache
def _broker() -> "redis.Redis":
    return redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_connect_timeout=3, socket_timeout=5)
