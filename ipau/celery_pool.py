"""Celery prefork pool that replaces dead worker processes at once.

A process closes its files a moment before it can be reaped. Celery reacts to the closed files, finds that the
process still runs, and checks again only after five seconds: https://github.com/celery/celery/issues/9588.
"""

from typing import Any

from celery.concurrency import asynpool, prefork

# Seconds after which to check again.
RECHECK_SECONDS = (0.02, 0.1, 0.5)


class Pool(asynpool.AsynPool):
    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)  # type: ignore[misc]  # the stubs have only what is public
        for seconds in RECHECK_SECONDS:
            hub.call_later(seconds, self.maintain_pool)


class TaskPool(prefork.TaskPool):
    """Celery's pool, with `Pool` above; set as `worker_pool`."""

    Pool = Pool
