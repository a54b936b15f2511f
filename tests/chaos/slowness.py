"""Simulated slow database disk. Workers load it with `-I`, and their writes are delayed.

Most of a picture's life is its computing. Without this hardly a fault would strike in the middle of a
transaction, or between the last of its statements and the news of its commit.
"""

import functools
import random
import time
from typing import Any

from processing.execution import record_results
from processing.job_queue import claims, transitions

LONGEST = 0.08


def _slow_down(module: Any, name: str) -> None:
    real = getattr(module, name)

    @functools.wraps(real)
    def slow(*args: Any, **options: Any) -> Any:
        made = real(*args, **options)
        time.sleep(random.uniform(0, LONGEST))
        return made

    setattr(module, name, slow)


# Within the transactions of a finish, and between a claim or a finish and what follows it.
_slow_down(claims, "finish_items")
_slow_down(claims, "claim")
_slow_down(record_results, "file_results")
_slow_down(record_results, "finish")
_slow_down(transitions, "count")
