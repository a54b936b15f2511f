"""What a delivery says: the job in the API's own words, with addresses as from outside.

A worker sends it, who stands below the API; so the settings name this function, where `turns` finds it.
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
    """Stands for a request where there is none: addresses are the public ones."""

    def _get_scheme(self) -> str:
        return str(urlsplit(settings.BASE_URL).scheme)

    def get_host(self) -> str:
        return str(urlsplit(settings.BASE_URL).netloc)


def body_of(delivery: Delivery) -> str:
    """Return the JSON that tells what a delivery is about, as it is now."""
    rendered: bytes = JSONRenderer().render(_describe(delivery))
    return rendered.decode()


def _describe(delivery: Delivery) -> Any:
    if delivery.job_id is None:
        return {"type": "ping", "id": str(delivery.pk), "created_at": delivery.created_at}
    context = {"request": _SiteRequest()}
    rows = Job.objects.filter(pk=delivery.job_id)
    # A prediction has one picture; those of a job, which may be very many, are not told.
    if rows.filter(kind=JobKind.PREDICTION).exists():
        return PredictionSerializer(predictions.with_results(rows).get(), context=context).data
    job = rows.select_related("version__listing__owner").get()
    return JobSerializer(job, context=context).data
