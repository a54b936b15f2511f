"""Lock for periodic work: only one worker at a time runs it, the others skip it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@contextmanager
def alone(subject: str, *, seconds: int) -> Iterator[bool]:
    """Yield whether this block is the only one with this subject on all workers.

    If Valkey does not answer, yield True.

    Args:
        subject: name of the work.
        seconds: lifetime of the lock, also after a worker dies. The block must finish within it.
    """
    key = f"alone:{subject}"
    try:
        is_alone = cache.add(key, True, seconds)
    except RedisError:
        # Running twice at once does no harm.
        logger.warning("Cannot lock %s; it runs without a lock", subject, exc_info=True)
        yield True
        return
    try:
        yield is_alone
    finally:
        if is_alone:
            _end(key)


def _end(key: str) -> None:
    try:
        cache.delete(key)
    except RedisError:
        logger.warning("Cannot release the lock %s; it expires by itself", key, exc_info=True)
