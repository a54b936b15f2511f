"""One turn at a time: who finds another one under way leaves the work to it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@contextmanager
def alone(subject: str, *, seconds: int) -> Iterator[bool]:
    """Yield whether no other block with this subject runs on any worker. None does where nobody can tell.

    A block whose worker dies counts as running for so many seconds, so no block may take longer.
    """
    key = f"alone:{subject}"
    try:
        is_alone = cache.add(key, True, seconds)
    except RedisError:
        # Two at once do no harm.
        logger.warning("Cannot tell whether %s runs already", subject, exc_info=True)
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
        logger.warning("Cannot tell that %s has ended", key, exc_info=True)
