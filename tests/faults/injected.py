"""Faults at exact moments in a real worker. Workers load it with `-I tests.faults.injected`.

The variable IPAU_TEST_FAULT names the one that strikes. Everything around that moment is the product's own.
"""

import functools
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from celery.signals import worker_init, worker_process_init
from django.db import OperationalError, connection

from processing.execution import record_results

NAME = "IPAU_TEST_FAULT"
STOP_BEFORE_FINISH = "stop_before_finish"
CUT_IN_FINISH = "cut_in_finish"
CUT_AFTER_FINISH = "cut_after_finish"
SHORT_VISIBILITY = "short_visibility"
NO_ROOM = "no_room"
# What a file may hold under NO_ROOM (bytes). The worker's own log is a file too.
ROOM = 256 * 1024
VISIBILITY_SECONDS = 1


def _before(name: str, strike: Callable[[], None]) -> None:
    """Have the first call of a function of `record_results`, in each slot, strike first."""
    real, struck = getattr(record_results, name), []

    @functools.wraps(real)
    def wrapped(*args: Any, **options: Any) -> Any:
        if not struck:
            struck.append(True)
            strike()
        return real(*args, **options)

    setattr(record_results, name, wrapped)


def _stop_worker() -> None:
    """Stop the whole worker, this slot included, until it is continued."""
    os.killpg(0, signal.SIGSTOP)


def _cut_connection() -> None:
    """End this slot's own backend; the statement after that finds out."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def _lose_first_answer() -> None:
    """The first finish of each slot is committed, and its answer never arrives."""
    real, lost = record_results.finish, []

    @functools.wraps(real)
    def finish(*args: Any) -> None:
        real(*args)
        if not lost:
            lost.append(True)
            raise OperationalError("the connection was lost after the commit")

    record_results.finish = finish


def _shorten_visibility(sender: Any, **_: Any) -> None:
    # After the start-up check, which refuses just that.
    sender.app.conf.broker_transport_options = {
        **sender.app.conf.broker_transport_options,
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }


def _limit_files(**_: Any) -> None:
    """A file that grows larger is cut off in the middle, as on a full disk (EFBIG for ENOSPC)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


_fault = os.environ.get(NAME)
if _fault == STOP_BEFORE_FINISH:
    _before("finish", _stop_worker)
elif _fault == CUT_IN_FINISH:
    _before("file_results", _cut_connection)
elif _fault == CUT_AFTER_FINISH:
    _lose_first_answer()
elif _fault == SHORT_VISIBILITY:
    worker_init.connect(_shorten_visibility)
elif _fault == NO_ROOM:
    worker_process_init.connect(_limit_files)
elif _fault is not None:
    raise ValueError(f"There is no fault {_fault!r}.")
