"""The Celery task decorator, and functions that send wake-ups. A task is a name, a load and one call."""

import logging
from collections.abc import Callable
from typing import Any

from celery import Task, shared_task
from django.core.cache import cache
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from ipau.common.errors import RateLimited, Unavailable
from ipau.common.http import concurrency

logger = logging.getLogger(__name__)

_queues: dict[str, str] = {}
# Celery would format the arguments for its log, which costs more than sending them.
_NO_LOG_TEXT: dict[str, Any] = {"argsrepr": "…", "kwargsrepr": ""}


def task(
    *, name: str, queue: str, soft_time_limit: int = 300, expires: float | None = None
) -> Callable[[Callable[..., Any]], Task[Any, Any]]:
    """Return a decorator that declares a Celery task with the delivery guarantees of all tasks.

    With late acknowledgment and reject-on-lost, the broker redelivers a wake-up if its worker dies.
    Duplicates are harmless: tasks read their work from PostgreSQL. The hard time limit is 30 s above the soft
    one.
    """

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        declared: Task[Any, Any] = shared_task(
            name=name,
            acks_late=True,
            acks_on_failure_or_timeout=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            soft_time_limit=soft_time_limit,
            time_limit=soft_time_limit + 30,
            expires=expires,
        )(function)
        # Not passed to Celery, whose task attribute `queue` is deprecated. Only `wake` sends tasks.
        _queues[name] = queue
        return declared

    return declare


def queue_of(name: str) -> str:
    """Return the queue of the task with this name."""
    return _queues[name]


def wake(declared: Task[Any, Any], *args: object, queue: str | None = None) -> bool:
    """Send a wake-up to `queue` (default: the task's queue); return whether the broker accepted it.

    A broker that does not answer only delays work: the sweep sends the wake-up again. So this never raises in
    a request that has just committed its transaction.
    """
    try:
        # A broker that hangs must not hold all threads of a web process.
        with concurrency.waiting(is_short=True):
            declared.apply_async(
                args=args,
                queue=queue or queue_of(declared.name),
                retry=False,
                **_NO_LOG_TEXT,
            )
    except (OperationalError, RateLimited, Unavailable):
        logger.warning("The broker did not accept %s%s; the sweep will send it again", declared.name, args)
        return False
    return True


def wake_once(declared: Task[Any, Any], subject: str, *, seconds: int) -> None:
    """Send a wake-up with one argument, unless one is already pending.

    The task calls `begins` when it starts; work added later needs another wake-up. A lost wake-up blocks
    others for at most `seconds`.
    """
    try:
        first = cache.add(_under_way(declared.name, subject), True, seconds)
    except RedisError:
        # A duplicate does no harm.
        logger.warning(
            "Cannot check whether %s(%s) is pending; sending it", declared.name, subject, exc_info=True
        )
        first = True
    if first:
        wake(declared, subject)


def begins(declared: Task[Any, Any], subject: str) -> None:
    """Mark a wake-up as no longer pending. A task calls this before it reads its rows; see `wake_once`."""
    try:
        cache.delete(_under_way(declared.name, subject))
    except RedisError:
        logger.warning("Cannot mark %s(%s) as started", declared.name, subject, exc_info=True)


def _under_way(name: str, subject: str) -> str:
    return f"wake:{name}:{subject}"
