"""Bodies of webhook deliveries: the job as the API returns it, with public URLs.

Workers must not import the API. So the settings name this function, and `notifications.work` imports it late.
"""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from rest_framework.renderers import JSONRenderer

from processing.jobs import predictions
from processing.models import Delivery, Job, JobKind
from processing.serializers import JobSerializer, PredictionSerializer


class _SiteRequest(HttpRequest):
    """Replaces the HTTP request outside of one. URLs are the public ones."""

    def _get_scheme(self) -> str:
        return str(urlsplit(settings.BASE_URL).scheme)

    def get_host(self) -> str:
        return str(urlsplit(settings.BASE_URL).netloc)


def body_of(delivery: Delivery) -> str:
    """Return the body of a delivery: JSON of the current state of its job."""
    rendered: bytes = JSONRenderer().render(_describe(delivery))
    return rendered.decode()


def _describe(delivery: Delivery) -> Any:
    if delivery.job_id is None:
        return {"type": "ping", "id": str(delivery.pk), "created_at": delivery.created_at}
    context = {"request": _SiteRequest()}
    rows = Job.objects.filter(pk=delivery.job_id)
    # A prediction has one image. The images of a job are left out, because there may be many.
    if rows.filter(kind=JobKind.PREDICTION).exists():
        return PredictionSerializer(predictions.with_results(rows).get(), context=context).data
    job = rows.select_related("version__listing__owner").get()
    return JobSerializer(job, context=context).data
