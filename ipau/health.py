"""Health checks: `/healthz` and `/readyz`, for load balancers, orchestrators and `./manage.py up`."""

import logging

from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from ipau.common.api.views import domain_problem
from ipau.common.errors import Unavailable

logger = logging.getLogger(__name__)


@csrf_exempt
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # a view
    """Return 200 if this process can answer. Checks no other service."""
    return HttpResponse("ok\n", content_type="text/plain")


@csrf_exempt
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if PostgreSQL and Redis answer, else 503 with a problem that names the ones that do not."""
    answers = {"database": _database_answers(), "redis": _redis_answers()}
    silent = [name for name, answered in answers.items() if not answered]
    if not silent:
        return JsonResponse({"ready": True, **answers})
    error = Unavailable(f"Not ready: no answer from {' and '.join(silent)}.")
    details = domain_problem(error, request.path)
    details.body.update(ready=False, **answers)
    return details.response()


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
