"""Celery tasks of the market: conversions, e-mails about pauses, and the sweep."""

from datetime import timedelta
from itertools import islice

from ipau.common.tasks import begins, task, wake, wake_once
from market.sandbox import budgets, work_dirs
from market.weights import conversion_queue, pause_emails, trials, work

# The sweep sends a wake-up for work that has waited this long.
RESEND_AFTER = timedelta(seconds=8)
# A wake-up is sent at most once in this time. After that, the sweep sends another one.
DEDUPLICATE_SECONDS = 20
_ANY = "any"


# The time limit covers the longest conversion with scan and trial, and is below the visibility timeout. The
# argument is unused: rows decide what is next. Messages of earlier releases have it.
@task(name="market.convert", queue="convert", soft_time_limit=840, expires=60)
def convert(_conversion_id: str = "") -> None:
    _take_turn()


# This task and the next exist for messages of earlier releases. They take a turn like any other.
@task(name="market.try_weights", queue="convert", soft_time_limit=840, expires=60)
def try_weights(_weights_id: str = "") -> None:
    _take_turn()


@task(name="market.show_chosen", queue="convert", soft_time_limit=840, expires=60)
def show_chosen(_listing_id: str = "") -> None:
    _take_turn()


@task(name="market.tell_paused", queue="background", expires=60)
def tell_paused() -> None:
    pause_emails.send_due()


@task(name="market.sweep", queue="background", expires=60)
def sweep() -> None:
    work.fail_exhausted()
    budgets.delete_old_days()
    work_dirs.delete_orphaned()
    if next(conversion_queue.list_waiting(older_than=RESEND_AFTER), None) is not None:
        send_turn()
    if pause_emails.due().exists():
        wake(tell_paused)


def send_turn() -> None:
    """Wake a conversion worker, once for all waiting work."""
    wake_once(convert, _ANY, seconds=DEDUPLICATE_SECONDS)


def send_trial(*, weights_id: str) -> None:
    """Request a trial of installed weights and wake a worker."""
    trials.request_trial(weights_id)
    send_turn()


def _take_turn() -> None:
    begins(convert, _ANY)
    # Several owners wait: wake another slot for the next one.
    if len(list(islice(conversion_queue.list_waiting(), 2))) > 1:
        send_turn()
    if conversion_queue.take_turn() and next(conversion_queue.list_waiting(), None) is not None:
        send_turn()
