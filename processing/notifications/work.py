"""Send due webhook deliveries and e-mails. Deliveries run in threads, so slow receivers block no others."""

import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial

from ipau.common.errors import OUR_FAULT
from ipau.common.late_import import LateImport
from ipau.common.postgresql.retry import persist
from processing.fleet import registry
from processing.models import Delivery, JobMail
from processing.notifications import email, http_post, outbox, signing
from processing.notifications.outbox import Outcome

logger = logging.getLogger(__name__)

# Concurrent deliveries of one turn.
THREADS = 8
# A turn claims notices for this long, then waits for pending ones and ends.
TURN_SECONDS = 5.0
# Interval of checks for further due notices while others are pending.
POLL_SECONDS = 0.5
KEPT = timedelta(days=30)
# Returns the body of a delivery, written by the API. Imported late: most workers have no deliveries.
body_of: LateImport[[Delivery], str] = LateImport()


def deliver() -> bool:
    """Send due deliveries; return whether some remain."""
    token, ends = uuid.uuid4(), time.monotonic() + TURN_SECONDS
    # Half of the slots stay free for other work of the queue.
    turns = max(1, registry.slots_of("background") // 2)
    pending: dict[Future[Outcome], Delivery] = {}
    sent = 0
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            room = THREADS - len(pending) if time.monotonic() < ends else 0
            for delivery in outbox.claim(Delivery, token=token, number=room, turns=turns) if room else ():
                pending[pool.submit(_prepare(delivery))] = delivery
                sent += 1
            if not pending:
                break
            for future in wait(pending, POLL_SECONDS, FIRST_COMPLETED).done:
                _record(pending.pop(future), future)
    return sent > 0 and outbox.is_due(Delivery)


def send_mails() -> bool:
    """Send due e-mails, one after another; return whether some remain."""
    token, ends = uuid.uuid4(), time.monotonic() + TURN_SECONDS
    sent = 0
    while time.monotonic() < ends:
        claimed = outbox.claim(JobMail, token=token, number=1, turns=1)
        if not claimed:
            break
        _send_mail(claimed[0])
        sent += 1
    return sent > 0 and outbox.is_due(JobMail)


def sweep() -> int:
    """Delete old notices; return the number deleted."""
    return outbox.sweep(older_than=KEPT)


def _prepare(delivery: Delivery) -> Callable[[], Outcome]:
    """Return a function that sends a delivery. It uses no database, so it may run in a thread."""
    try:
        if not delivery.body:
            delivery.body = body_of(delivery)
        headers = signing.headers_for(delivery, signing.secret_of(delivery.owner))
    except Exception:
        logger.exception("Delivery %s could not be prepared", delivery.pk)
        return partial(Outcome, problem=OUR_FAULT)
    return partial(http_post.post, delivery.url, delivery.body, headers)


def _record(delivery: Delivery, future: "Future[Outcome]") -> None:
    try:
        outcome = future.result()
    except Exception:
        logger.exception("Delivery %s failed", delivery.pk)
        outcome = Outcome(problem=OUR_FAULT)
    persist(lambda: outbox.record(delivery, outcome))


def _send_mail(mail: JobMail) -> None:
    try:
        outcome = email.send(mail)
    except Exception:
        logger.exception("E-mail %s failed", mail.pk)
        outcome = Outcome(problem=OUR_FAULT)
    persist(lambda: outbox.record(mail, outcome))
