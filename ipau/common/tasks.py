"""The one task decorator. A task is a name, a load and one call."""

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
# Celery would write the arguments out for its log, which costs more than sending them.
_NO_LOG_TEXT: dict[str, Any] = {"argsrepr": "…", "kwargsrepr": ""}


def task(
    *, name: str, queue: str, soft_time_limit: int = 300, expires: float | None = None
) -> Callable[[Callable[..., Any]], Task[Any, Any]]:
    """Declare a Celery task with the delivery guarantees that all of them need.

    Late acknowledgement and reject-on-lost give a wake-up back when its worker dies; the rows in PostgreSQL
    make a doubled one harmless. The hard limit stands 30 s behind the soft one.
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
        # Not given to Celery, whose task attribute of that name is deprecated: `wake` is the only sender.
        _queues[name] = queue
        return declared

    return declare


def queue_of(name: str) -> str:
    """Return the queue to which the task of this name is sent."""
    return _queues[name]


def wake(declared: Task[Any, Any], *args: object, queue: str | None = None) -> bool:
    """Send a wake-up (to the task's own queue unless told) and tell whether the broker took it.

    A broker that does not answer only delays work: the sweep sends again what the rows call for. So this
    never fails the request whose transaction has just been committed.
    """
    try:
        # A broker that hangs may not hold all threads of a web process.
        with concurrency.waiting(is_short=True):
            declared.apply_async(
                args=args,
                queue=queue or queue_of(declared.name),
                retry=False,
                **_NO_LOG_TEXT,
            )
    except (OperationalError, RateLimited, Unavailable):
        logger.warning("The broker did not take %s%s; the sweep will send it again", declared.name, args)
        return False
    return True


def wake_once(declared: Task[Any, Any], subject: str, *, seconds: int) -> None:
    """As `wake` with one argument, unless such a wake-up is already on its way.

    The task says with `begins` that it has begun: what comes from then on needs another wake-up. One that is
    lost holds others up for so many seconds at most.
    """
    try:
        first = cache.add(_under_way(declared.name, subject), True, seconds)
    except RedisError:
        # One too many does no harm.
        logger.warning("Cannot tell whether %s(%s) was sent already", declared.name, subject, exc_info=True)
        first = True
    if first:
        wake(declared, subject)


def begins(declared: Task[Any, Any], subject: str) -> None:
    """Say in a task that it looks at its rows from now on; see `wake_once`."""
    try:
        cache.delete(_under_way(declared.name, subject))
    except RedisError:
        logger.warning("Cannot tell that %s(%s) has begun", declared.name, subject, exc_info=True)


def _under_way(name: str, subject: str) -> str:
    return f"wake:{name}:{subject}"
