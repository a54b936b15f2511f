"""The envelopes that carry the market's work to a worker."""

from datetime import timedelta
from uuid import UUID

from ipau.common.tasks import begins, task, wake, wake_once
from market import pause_mails, showing, trying, work, workplace

SILENT = timedelta(seconds=8)
# A wake-up that waits behind others is not sent again for so long.
AGAIN_SECONDS = 60


# Rebuilding a large model takes minutes, but less than messages stay invisible for.
@task(name="market.convert", queue="convert", soft_time_limit=840)
def convert(conversion_id: str) -> None:
    begins(convert, conversion_id)
    work.convert(UUID(conversion_id))


@task(name="market.try_weights", queue="convert")
def try_weights(weights_id: str) -> None:
    begins(try_weights, weights_id)
    trying.try_kept(UUID(weights_id))


@task(name="market.show_chosen", queue="convert")
def show_chosen(listing_id: str) -> None:
    begins(show_chosen, listing_id)
    showing.show_chosen(UUID(listing_id))


@task(name="market.tell_paused", queue="convert", expires=60)
def tell_paused() -> None:
    pause_mails.send_due()


@task(name="market.sweep", queue="convert", expires=60)
def sweep() -> None:
    work.end_hopeless()
    # Each machine that converts comes to sweep sooner or later; this one looks after its own.
    workplace.forget_lost()
    for conversion_id in work.conversions_waiting(older_than=SILENT):
        send_conversion(conversion_id=conversion_id)
    for listing_id in showing.listings_due(older_than=SILENT):
        send_chosen(listing_id=listing_id)
    if pause_mails.due().exists():
        wake(tell_paused)


def send_conversion(*, conversion_id: str) -> None:
    """Wake a worker for a conversion."""
    wake_once(convert, conversion_id, seconds=AGAIN_SECONDS)


def send_trial(*, weights_id: str) -> None:
    """Wake a worker to try weights that no conversion has tried. A lost one is not sent again."""
    wake_once(try_weights, weights_id, seconds=AGAIN_SECONDS)


def send_chosen(*, listing_id: str) -> None:
    """Wake a worker to show a model on the pictures that its owner has chosen."""
    wake_once(show_chosen, listing_id, seconds=AGAIN_SECONDS)
