"""Celery task that wakes a preview slot."""

from ipau.common.http import concurrency
from ipau.common.tasks import task, wake
from processing.previews import queue as preview_queue
from processing.previews import work
from processing.previews.channel import QUEUE, REQUEST_TIMEOUT_SECONDS


@task(
    name="processing.preview",
    queue=QUEUE,
    soft_time_limit=2 * REQUEST_TIMEOUT_SECONDS,
    expires=REQUEST_TIMEOUT_SECONDS,
)
def preview() -> None:
    if work.make_previews():
        wake_preview()


def send_preview(*request: object) -> bool:
    """Queue a preview request; return False if no worker can be woken."""
    return preview_queue.put(list(request), person=concurrency.person()) or wake_preview()


def wake_preview() -> bool:
    """Wake a slot to look for requests; return whether the broker accepted the message."""
    return wake(preview)
