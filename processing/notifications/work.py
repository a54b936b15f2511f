"""Turns at sending: what is due goes out, several at a time, so that a slow receiver holds up nobody else."""

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

# Deliveries that one turn has on their way at once.
THREADS = 8
# A turn takes further notices for so long; then it waits for those on their way and ends.
TURN_SECONDS = 5.0
# Between two looks whether more has become due, while others are on their way.
LOOK_SECONDS = 0.5
KEPT = timedelta(days=30)
# Returns the body of a delivery, as the API writes it. Most workers never import it: they have no deliveries.
body_of: LateImport[[Delivery], str] = LateImport()


def deliver() -> bool:
    """Send the deliveries that are due; return whether some are left."""
    token, ends = uuid.uuid4(), time.monotonic() + TURN_SECONDS
    # Half of the slots stay free for all else that waits in the queue.
    turns = max(1, registry.slots_of("background") // 2)
    under_way: dict[Future[Outcome], Delivery] = {}
    sent = 0
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            room = THREADS - len(under_way) if time.monotonic() < ends else 0
            for delivery in outbox.claim(Delivery, token=token, number=room, turns=turns) if room else ():
                under_way[pool.submit(_prepare(delivery))] = delivery
                sent += 1
            if not under_way:
                break
            for future in wait(under_way, LOOK_SECONDS, FIRST_COMPLETED).done:
                _record(under_way.pop(future), future)
    return sent > 0 and outbox.is_due(Delivery)


def send_mails() -> bool:
    """Send the mails that are due, one after another; return whether some are left."""
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
    """Delete old notices; return how many."""
    return outbox.sweep(older_than=KEPT)


def _prepare(delivery: Delivery) -> Callable[[], Outcome]:
    """Return the sending of a delivery, which may run in another thread: it asks no database."""
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
        logger.exception("Mail %s failed", mail.pk)
        outcome = Outcome(problem=OUR_FAULT)
    persist(lambda: outbox.record(mail, outcome))
