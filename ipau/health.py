"""Whether the site is up, for load balancers, orchestrators and `./manage.py up`."""

import logging

from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def healthz(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # a view
    """Answer 200 while this process can answer at all; asks no other service."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001  # a view
    """Answer 200 while PostgreSQL and Redis answer, else 503 with the names of those that do not."""
    answers = {"database": _database_answers(), "redis": _redis_answers()}
    ready = all(answers.values())
    return JsonResponse({"ready": ready, **answers}, status=200 if ready else 503)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        logger.warning("The database does not answer: %s", error)
        return False
    return True


def _redis_answers() -> bool:
    try:
        cache.get("readyz")
    except (RedisError, OSError) as error:
        logger.warning("Redis does not answer: %s", error)
        return False
    return True
