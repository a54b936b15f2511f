"""How long a job has been passed over for others, whose models a slot has at hand.

That stands in Valkey and is advice: where it is lost, a job is passed over once more for a few seconds; where
Valkey does not answer, jobs go in the order of their submission.
"""

import logging
from uuid import UUID

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10
REMEMBERED_SECONDS = 3600


def is_exhausted(job_id: UUID) -> bool:
    """Note that a job would be passed over now; return whether it has been for too long already.

    It has been once `PATIENCE_SECONDS` have gone by since this was first asked, by whichever slot.
    """
    passed, patient = f"passed-over:{job_id}", f"patient:{job_id}"
    try:
        if cache.get(passed) is None:
            cache.set(patient, True, PATIENCE_SECONDS)
            cache.set(passed, True, REMEMBERED_SECONDS)
        return cache.get(patient) is None
    except RedisError:
        logger.warning("Cannot tell how long job %s has been passed over", job_id, exc_info=True)
        return True
