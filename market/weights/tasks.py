"""The envelopes that carry the market's work to a worker."""

from datetime import timedelta
from itertools import islice

from ipau.common.tasks import begins, task, wake, wake_once
from market.sandbox import budgets, work_dirs
from market.weights import conversion_queue, pause_mails, trials, work

SILENT = timedelta(seconds=8)
# A wake-up that waits behind others is not sent again for so long. What comes later is the sweep's to send.
AGAIN_SECONDS = 20
_ANY = "any"


# The longest conversion with its scan and trial, but less than messages stay invisible for. The argument is
# that of wake-ups of earlier versions: whose turn it is, is decided by rows.
@task(name="market.convert", queue="convert", soft_time_limit=840, expires=60)
def convert(_conversion_id: str = "") -> None:
    _take_turn()


# As above; also a message that was sent before all of these became one turn.
@task(name="market.try_weights", queue="convert", soft_time_limit=840, expires=60)
def try_weights(_weights_id: str = "") -> None:
    _take_turn()


@task(name="market.show_chosen", queue="convert", soft_time_limit=840, expires=60)
def show_chosen(_listing_id: str = "") -> None:
    _take_turn()


@task(name="market.tell_paused", queue="background", expires=60)
def tell_paused() -> None:
    pause_mails.send_due()


@task(name="market.sweep", queue="background", expires=60)
def sweep() -> None:
    work.end_hopeless()
    budgets.forget_old_days()
    work_dirs.forget_lost()
    if next(conversion_queue.list_waiting(older_than=SILENT), None) is not None:
        send_turn()
    if pause_mails.due().exists():
        wake(tell_paused)


def send_turn() -> None:
    """Wake a worker that converts; once for all that waits when it begins."""
    wake_once(convert, _ANY, seconds=AGAIN_SECONDS)


def send_trial(*, weights_id: str) -> None:
    """Have weights tried that no conversion has tried."""
    trials.ask(weights_id)
    send_turn()


def _take_turn() -> None:
    begins(convert, _ANY)
    # Several owners wait: another slot begins with the next one.
    if len(list(islice(conversion_queue.list_waiting(), 2))) > 1:
        send_turn()
    if conversion_queue.take_turn() and next(conversion_queue.list_waiting(), None) is not None:
        send_turn()
