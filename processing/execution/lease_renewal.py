"""Lease renewal of a claim while its images run, and interruption of images that are no longer needed.

The lease is renewed between images. While an image takes long, a thread renews it over a second connection,
opened only then and closed with the claim. So a slot has at most two connections.
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

# Seconds between renewals, between images and while one image runs.
RENEW_EVERY = 1.0
RENEW_BUSY_EVERY = 0.5
_TICK = 0.1
# An image that ignores an interruption for this long is inside a long C call. The slot's work is no longer
# needed then, so the slot kills itself and its worker starts another one.
STOP_GRACE = 1.0
# An image that runs this many seconds beyond its time limit fails, and its slot is killed.
OVERRUN = 5.0
# How often the slot of an overlong image checks whether another owner waits.
PREEMPT_CHECK_EVERY = 0.1


class LeaseRenewal:
    """Context manager around the images of one claim.

    Attributes:
        was_preempted: whether an image was interrupted to serve another owner.
        overlong_seconds: total time of images that took far longer than expected.
    """

    def __init__(self, claim: Claim, recipe: Recipe):
        self.claim = claim
        self.was_preempted = False
        self.overlong_seconds = 0.0
        self._recipe = recipe
        self._item: Item | None = None
        self._preempt_after: float | None = None
        self._overlong_after = math.inf
        self._preempt_checked_at = 0.0
        self._ended = threading.Event()
        self._thread = leases.renewing(self._check, every=_TICK, name="lease-renewal")
        self._image_started = self._renewed_at = time.monotonic()
        self._lost_at: float | None = None

    def __enter__(self) -> "LeaseRenewal":
        self._thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.__exit__(kind, error, trace)
        self._count_overlong()

    def is_wanted(self) -> bool:
        """Return whether this slot still owns items of the claim, as far as it knows."""
        return self._lost_at is None and not self.was_preempted

    def start_image(self, item: Item | None = None) -> bool:
        """Note that an image starts, and renew the lease if due; return whether the image should run.

        Args:
            item: the item that starts, if items run one after the other.
        """
        self._count_overlong()
        self._image_started = time.monotonic()
        self._item, self._preempt_after, self._overlong_after = item, None, math.inf
        if self.is_wanted() and self._image_started - self._renewed_at > RENEW_EVERY:
            self._note_renewal(persist(lambda: claims.renew(self.claim)))
        return self.is_wanted()

    def _count_overlong(self) -> None:
        spent = time.monotonic() - self._image_started
        # The limit is infinite for quick images: the thread did not compute it.
        if spent > self._overlong_after:
            self.overlong_seconds += spent
        self._overlong_after = math.inf

    def _note_renewal(self, is_ours: bool) -> None:
        self._renewed_at = time.monotonic()
        if not is_ours:
            self._lost_at = self._renewed_at

    # --- In the thread.

    def _check(self) -> bool:
        """Renew, interrupt or preempt if due; return whether this slot still owns the claim."""
        now = time.monotonic()
        if self.is_wanted() and min(now - self._image_started, now - self._renewed_at) > RENEW_BUSY_EVERY:
            self._renew()
        if self._lost_at is not None:
            time_limits.interrupt()
        self._preempt(now)
        for block in self._blocks():
            if self._lost_at is not None:
                self._kill_slot_if(now - max(self._lost_at, block.begun) > STOP_GRACE, "is no longer needed")
            if now - block.ends > OVERRUN:
                self._fail_overrun()
                self._kill_slot_if(True, "takes too long")
        return self._lost_at is None

    def _preempt(self, now: float) -> None:
        """Interrupt an overlong image if its owner holds all slots and another owner waits."""
        item = self._item
        if (
            item is None
            or self.was_preempted
            or now - self._image_started < expected_time.MIN_PREEMPT_SECONDS
        ):
            return
        with self._tolerate_connection_errors("could not be checked"):
            if self._preempt_after is None:
                self._preempt_after = expected_time.preempt_after(self._recipe, item)
                self._overlong_after = expected_time.overlong_after(self._recipe, item)
            is_early = now - self._image_started < self._preempt_after
            if is_early or now - self._preempt_checked_at < PREEMPT_CHECK_EVERY:
                return
            self._preempt_checked_at = now
            job = self.claim.job
            if wakeups.should_preempt(owner_id=job.owner_id, queue=job.queue, token=self.claim.token):
                logger.info("Interrupted an image of job %s to serve another owner", job.pk)
                self.was_preempted = True
                self._overlong_after = min(self._overlong_after, self._preempt_after)
        if self.was_preempted:
            time_limits.interrupt()

    def _fail_overrun(self) -> None:
        """Record that the image took too long. A retry would kill the next slot as well."""
        item = self._item
        if item is None or self._ended.is_set():
            return
        failure = failure_of(time_limits.TookTooLong())
        done = Done(item, State.FAILED, error_code=failure.code, error=failure.message)
        with self._tolerate_connection_errors("could not be marked as failed"):
            record_results.finish(self.claim, [done])

    @contextmanager
    def _tolerate_connection_errors(self, what: str) -> Iterator[None]:
        """Log connection errors and go on: the lease outlasts many of them."""
        try:
            yield
        except CONNECTION_ERRORS:
            logger.warning("An image of job %s %s", self.claim.job.pk, what, exc_info=True)
            connection.close()

    def _blocks(self) -> list[time_limits.Block]:
        """Return the time-limited blocks that run now, in the main thread and in others."""
        main = time_limits.running()
        return [*([] if main is None else [main]), *time_limits.running_in_threads().values()]

    def _renew(self) -> None:
        with self._tolerate_connection_errors("keeps its old lease: it could not be renewed"):
            self._note_renewal(claims.renew(self.claim))

    def _kill_slot_if(self, is_stuck: bool, why: str) -> None:
        if is_stuck and not self._ended.is_set():
            logger.error("An image of job %s %s and cannot be interrupted", self.claim.job.pk, why)
            os.kill(os.getpid(), signal.SIGKILL)
