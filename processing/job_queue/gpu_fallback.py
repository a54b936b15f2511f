"""Move jobs from the `gpu` queue to processors when no GPU is left. Results are the same, only slower."""

import logging
import time

from django.core.cache import cache
from django.db.models.functions import Now

from processing.fleet import queues, registry
from processing.models import Job

logger = logging.getLogger(__name__)

# Time that a restarted worker has to come back.
GRACE_SECONDS = 60
_SINCE = "processing:gpu-missing-since"
# When the entry expires, the grace time starts again.
_SINCE_TTL_SECONDS = 24 * 3600


def move_jobs_to_cpu() -> int:
    """Move jobs out of the queue `gpu` if no worker has served it for a while; return the number moved.

    They do not move back when a GPU worker returns.
    """
    if registry.is_served(queues.GPU_QUEUE):
        cache.delete(_SINCE)
        return 0
    now = time.time()
    since: float = cache.get_or_set(_SINCE, now, _SINCE_TTL_SECONDS) or now
    if now - since < GRACE_SECONDS:
        return 0
    waiting = Job.objects.open().filter(queue=queues.GPU_QUEUE)
    number = waiting.update(queue="cpu", updated_at=Now())
    if number:
        logger.warning("No worker serves the queue gpu: moved %d jobs to the queue cpu", number)
    return number
