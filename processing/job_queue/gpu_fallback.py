"""Jobs that wait for a GPU when none is left go on on processors: with the same results, only slower."""

import logging
import time

from django.core.cache import cache
from django.db.models.functions import Now

from processing.fleet import queues, registry
from processing.models import Job

logger = logging.getLogger(__name__)

# A worker that is restarted is back within this.
GRACE_SECONDS = 60
_SINCE = "processing:gpu-missing-since"
# Forgotten now and then, which costs one more grace.
_KEPT_SECONDS = 24 * 3600


def leave_missing_gpu() -> int:
    """Move jobs out of the queue `gpu` where no worker has served it for a while; return how many.

    They do not come back when one does.
    """
    if registry.is_served(queues.GPU_QUEUE):
        cache.delete(_SINCE)
        return 0
    now = time.time()
    since: float = cache.get_or_set(_SINCE, now, _KEPT_SECONDS) or now
    if now - since < GRACE_SECONDS:
        return 0
    waiting = Job.objects.open().filter(queue=queues.GPU_QUEUE)
    number = waiting.update(queue="cpu", updated_at=Now())
    if number:
        logger.warning("No worker serves the queue gpu: %d jobs go on on processors", number)
    return number
