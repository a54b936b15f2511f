"""Task: wake a preview slot."""

from ipau.common.http import concurrency
from ipau.common.tasks import task, wake
from processing.previews import queue as preview_queue
from processing.previews import work
from processing.previews.channel import PATIENCE_SECONDS, QUEUE


@task(name="processing.preview", queue=QUEUE, soft_time_limit=2 * PATIENCE_SECONDS, expires=PATIENCE_SECONDS)
def preview() -> None:
    if work.make_previews():
        wake_preview()


def send_preview(*request: object) -> bool:
    """Ask a preview worker; return whether the request is on its way."""
    return preview_queue.put(list(request), person=concurrency.person()) or wake_preview()


def wake_preview() -> bool:
    """Wake a slot to look for requests; return whether the broker took the message."""
    return wake(preview)
