"""Watching over a claim while its pictures are run: its lease is kept, and what nobody wants is stopped.

A lease is renewed between pictures. While one takes long, a thread renews it over a connection of its own,
which it opens only then and closes with the claim: a slot has two connections at most.
"""

import logging
import os
import signal
import threading
import time
from types import TracebackType

from django.db import connection

from ipau.common.database import CONNECTION_ERRORS, persist
from processing import claims, limits
from processing.claims import Claim

logger = logging.getLogger(__name__)

RENEW_EVERY = 1.0
# A picture that runs for longer than this is watched, and looked after this often.
LOOK_EVERY = 0.5
_TICK = 0.1
# What does not stop in this time after it was told to is in the middle of a long call into C. Nothing that
# the slot holds is wanted then, so it ends itself, and its worker starts another.
STOPS_WITHIN = 1.0
OVERRUN = 5.0


class Watch:
    """Used as a context around the pictures of one claim."""

    def __init__(self, held: Claim):
        self.held = held
        self._ended = threading.Event()
        self._began = self._renewed = time.monotonic()
        self._lost_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        # Within a transaction nobody sees the claim yet, so nobody can take it away either.
        if not connection.in_atomic_block:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def is_wanted(self) -> bool:
        """Tell whether anything of the claim is still this slot's, as far as that is known."""
        return self._lost_at is None

    def next_picture(self) -> bool:
        """Note that a picture begins, and renew the lease if it is time to; return whether it is wanted."""
        self._began = time.monotonic()
        if self.is_wanted() and self._began - self._renewed > RENEW_EVERY:
            self._note(persist(lambda: claims.renew(self.held)))
        return self.is_wanted()

    def _note(self, is_ours: bool) -> None:
        self._renewed = time.monotonic()
        if not is_ours:
            self._lost_at = self._renewed

    # --- In the thread.

    def _run(self) -> None:
        try:
            while not self._ended.wait(_TICK):
                self._look()
        finally:
            connection.close()

    def _look(self) -> None:
        now = time.monotonic()
        if self.is_wanted() and min(now - self._began, now - self._renewed) > LOOK_EVERY:
            self._renew()
        if self._lost_at is not None:
            limits.interrupt()
        for block in self._blocks():
            if self._lost_at is not None:
                self._end_slot_if(now - max(self._lost_at, block.begun) > STOPS_WITHIN, "is not wanted")
            self._end_slot_if(now - block.ends > OVERRUN, "takes too long")

    def _blocks(self) -> list[limits.Block]:
        """Return what runs now: in the main thread, or beside it."""
        main = limits.running()
        return [*([] if main is None else [main]), *limits.running_beside().values()]

    def _renew(self) -> None:
        try:
            self._note(claims.renew(self.held))
        except CONNECTION_ERRORS:
            # The lease outlasts many such failures.
            logger.warning("The lease of job %s was not renewed", self.held.job.pk, exc_info=True)
            connection.close()

    def _end_slot_if(self, is_stuck: bool, why: str) -> None:
        if is_stuck and not self._ended.is_set():
            logger.error("A picture of job %s %s and cannot be interrupted", self.held.job.pk, why)
            os.kill(os.getpid(), signal.SIGKILL)
