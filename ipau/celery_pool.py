"""The processes of a worker, whose ends are seen at once.

A process closes its files a moment before it can be waited for. Celery is told by the files, finds that the
process still runs, and looks again after five seconds only: https://github.com/celery/celery/issues/9588.
"""

from typing import Any

from celery.concurrency import asynpool, prefork

# Seconds after which to look once more.
AGAIN = (0.02, 0.1, 0.5)


class Pool(asynpool.AsynPool):
    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)  # type: ignore[misc]  # the stubs have only what is public
        for seconds in AGAIN:
            hub.call_later(seconds, self.maintain_pool)


class TaskPool(prefork.TaskPool):
    """As Celery's own, for `worker_pool`."""

    Pool = Pool
