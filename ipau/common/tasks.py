"""The one task decorator. A task is a name, a load and one call."""

from collections.abc import Callable
from typing import Any

from celery import Task, shared_task


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
            queue=queue,
            acks_late=True,
            acks_on_failure_or_timeout=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            soft_time_limit=soft_time_limit,
            time_limit=soft_time_limit + 30,
            expires=expires,
        )(function)
        return declared

    return declare
