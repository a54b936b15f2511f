"""Watching over a claim while its pictures are run: its lease is kept, and what nobody wants is stopped.

A lease is renewed between pictures. While one takes long, a thread renews it over a connection of its own,
which it opens only then and closes with the claim: a slot has two connections at most.
"""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from django.db import connection

from ipau.common import leases
from ipau.common.postgresql.retry import CONNECTION_ERRORS, persist
from processing.execution import expected_time, record_results, time_limits
from processing.execution.outcomes import Done, failure_of
from processing.job_queue import claims, wakeups
from processing.job_queue.claims import Claim
from processing.models import Item, State
from workers.recipe import Recipe

logger = logging.getLogger(__name__)

RENEW_EVERY = 1.0
# A picture that runs for longer than this is watched, and looked after this often.
LOOK_EVERY = 0.5
_TICK = 0.1
# What does not stop in this time after it was told to is in the middle of a long call into C. Nothing that
# the slot holds is wanted then, so it ends itself, and its worker starts another.
STOPS_WITHIN = 1.0
OVERRUN = 5.0
# How often a slot whose image takes far too long asks whether another owner waits.
GIVE_WAY_EVERY = 0.1


class Watch:
    """Used as a context around the pictures of one claim.

    Attributes:
        gave_way: whether the image that ran was interrupted for another owner to be served.
        overlong_seconds: how long images took that took far longer than they were expected to.
    """

    def __init__(self, held: Claim, recipe: Recipe):
        self.held = held
        self.gave_way = False
        self.overlong_seconds = 0.0
        self._recipe = recipe
        self._item: Item | None = None
        self._gives_way_after: float | None = None
        self._overlong_after = math.inf
        self._asked = 0.0
        self._ended = threading.Event()
        self._looking = leases.renewing(self._look, every=_TICK, name="watch")
        self._began = self._renewed = time.monotonic()
        self._lost_at: float | None = None

    def __enter__(self) -> "Watch":
        self._looking.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._looking.__exit__(kind, error, trace)
        self._count_overlong()

    def is_wanted(self) -> bool:
        """Tell whether anything of the claim is still this slot's to do, as far as that is known."""
        return self._lost_at is None and not self.gave_way

    def next_picture(self, item: Item | None = None) -> bool:
        """Note that a picture begins, and renew the lease if it is time to; return whether it is wanted.

        Args:
            item: whose picture it is, where pictures are run one after the other.
        """
        self._count_overlong()
        self._began = time.monotonic()
        self._item, self._gives_way_after, self._overlong_after = item, None, math.inf
        if self.is_wanted() and self._began - self._renewed > RENEW_EVERY:
            self._note(persist(lambda: claims.renew(self.held)))
        return self.is_wanted()

    def _count_overlong(self) -> None:
        spent = time.monotonic() - self._began
        # The thread has not looked at an image that was quick, so no bound is known.
        if spent > self._overlong_after:
            self.overlong_seconds += spent
        self._overlong_after = math.inf

    def _note(self, is_ours: bool) -> None:
        self._renewed = time.monotonic()
        if not is_ours:
            self._lost_at = self._renewed

    # --- In the thread.

    def _look(self) -> bool:
        """Do what is due; return whether the claim is still this slot's, as far as that is known."""
        now = time.monotonic()
        if self.is_wanted() and min(now - self._began, now - self._renewed) > LOOK_EVERY:
            self._renew()
        if self._lost_at is not None:
            time_limits.interrupt()
        self._give_way(now)
        for block in self._blocks():
            if self._lost_at is not None:
                self._end_slot_if(now - max(self._lost_at, block.begun) > STOPS_WITHIN, "is not wanted")
            if now - block.ends > OVERRUN:
                self._fail_overrun()
                self._end_slot_if(True, "takes too long")
        return self._lost_at is None

    def _give_way(self, now: float) -> None:
        """Interrupt an image that takes far too long, where its owner has all slots and another one waits."""
        item = self._item
        if item is None or self.gave_way or now - self._began < expected_time.LEAST_GIVE_WAY_SECONDS:
            return
        with self._surviving("was not looked at"):
            if self._gives_way_after is None:
                self._gives_way_after = expected_time.give_way_after(self._recipe, item)
                self._overlong_after = expected_time.overlong_after(self._recipe, item)
            if now - self._began < self._gives_way_after or now - self._asked < GIVE_WAY_EVERY:
                return
            self._asked = now
            job = self.held.job
            if wakeups.is_to_give_way(owner_id=job.owner_id, queue=job.queue, token=self.held.token):
                logger.info("A picture of job %s gives way to another owner's work", job.pk)
                self.gave_way = True
                self._overlong_after = min(self._overlong_after, self._gives_way_after)
        if self.gave_way:
            time_limits.interrupt()

    def _fail_overrun(self) -> None:
        """Record that the image took too long: it would in the next slot too, and end that one as well."""
        item = self._item
        if item is None or self._ended.is_set():
            return
        failure = failure_of(time_limits.TookTooLong())
        done = Done(item, State.FAILED, error_code=failure.code, error=failure.message)
        with self._surviving("could not be failed"):
            record_results.finish(self.held, [done])

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Go on where the database does not answer: the lease outlasts many such failures."""
        try:
            yield
        except CONNECTION_ERRORS:
            logger.warning("A picture of job %s %s", self.held.job.pk, what, exc_info=True)
            connection.close()

    def _blocks(self) -> list[time_limits.Block]:
        """Return what runs now: in the main thread, or beside it."""
        main = time_limits.running()
        return [*([] if main is None else [main]), *time_limits.running_beside().values()]

    def _renew(self) -> None:
        with self._surviving("keeps its old lease"):
            self._note(claims.renew(self.held))

    def _end_slot_if(self, is_stuck: bool, why: str) -> None:
        if is_stuck and not self._ended.is_set():
            logger.error("A picture of job %s %s and cannot be interrupted", self.held.job.pk, why)
            os.kill(os.getpid(), signal.SIGKILL)
