"""The one task decorator. A task is a name, a load and one call."""

import logging
from collections.abc import Callable
from typing import Any

from celery import Task, shared_task
from kombu.exceptions import OperationalError

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
        declared.apply_async(
            args=args,
            queue=queue or queue_of(declared.name),
            retry=False,
            **_NO_LOG_TEXT,
        )
    except OperationalError:
        logger.warning("The broker did not take %s%s; the sweep will send it again", declared.name, args)
        return False
    return True
