"""API views of predictions, in the wire format of hosted inference (Replicate)."""

import re
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import Scope
from ipau.common.api.views import IDEMPOTENCY_KEY, ApiView, idempotency_key, page_of, page_response, validated
from market.listings.io_schema import PICTURE
from market.models import Version
from processing import services
from processing.jobs import predictions
from processing.models import Job, JobKind
from processing.serializers import PredictionInputSerializer, PredictionSerializer, VersionedInputSerializer
from processing.serializers.webhooks import webhook_terms
from processing.services import JobInput, Terms

PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait` or `wait=N`: respond when the prediction ends, or after N (at most 60) seconds with "
    "the status `starting`. Without this header, the response comes at once.",
)
_WAIT = re.compile(r"wait(?:\s*=\s*\"?(\d{1,6})\"?)?\s*", re.IGNORECASE)


class PredictionList(ApiView):
    """List and create predictions of the caller."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="predictions_list",
        summary="List predictions",
        tags=["Predictions"],
        responses=page_of(PredictionSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first. Results are URLs here, never inline."""
        rows = predictions.list_predictions(owner=caller(request))
        return page_response(request, rows, PredictionSerializer)

    @extend_schema(
        operation_id="predictions_create",
        summary="Run a version on an image",
        tags=["Predictions"],
        parameters=[PREFER, IDEMPOTENCY_KEY],
        request=VersionedInputSerializer,
        responses={201: PredictionSerializer},
    )
    def post(self, request: Request) -> Response:
        sent = validated(VersionedInputSerializer(data=request.data))
        version = predictions.find_version(user=caller(request), reference=sent["version"])
        return run_on_one(request, version, sent)


class ModelPredictionList(ApiView):
    """Create predictions of one app or model."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="models_predictions_create",
        summary="Run an app or a model on an image",
        tags=["Predictions"],
        parameters=[PREFER, IDEMPOTENCY_KEY],
        request=PredictionInputSerializer,
        responses={201: PredictionSerializer},
    )
    def post(self, request: Request, owner: str, name: str) -> Response:
        """Runs the newest version."""
        version = predictions.find_version(user=caller(request), reference=f"{owner}/{name}")
        sent = validated(PredictionInputSerializer(data=request.data))
        return run_on_one(request, version, sent)


class PredictionDetail(ApiView):
    """Get one prediction."""

    @extend_schema(
        operation_id="predictions_get",
        summary="Get a prediction",
        tags=["Predictions"],
        responses=PredictionSerializer,
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        job = predictions.get_prediction(owner=caller(request), job_id=job_id)
        return _answer(request, job, inline=True)


class PredictionCancel(ApiView):
    """Cancel a prediction."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="predictions_cancel",
        summary="Cancel a prediction",
        tags=["Predictions"],
        request=None,
        responses=PredictionSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        owner = caller(request)
        services.cancel_job(owner=owner, job_id=job_id, kind=JobKind.PREDICTION)
        return _answer(request, predictions.get_prediction(owner=owner, job_id=job_id))


def run_on_one(request: Request, version: Version, sent: dict[str, Any]) -> Response:
    """Run a version on the image in the input; wait for the result if the `Prefer` header says so."""
    values = sent["input"]
    params = {name: value for name, value in values.items() if name != PICTURE}
    job = services.submit_prediction(
        owner=caller(request),
        version=version,
        params=params,
        source=_source(request, version, values[PICTURE]),
        terms=Terms(**webhook_terms(sent)),
        idempotency_key=idempotency_key(request),
    )
    seconds = wanted_wait(request)
    ended = predictions.wait_for(job, seconds=seconds) if seconds else False
    job = predictions.get_prediction(owner=caller(request), job_id=job.pk)
    return _answer(request, job, inline=bool(seconds), timed_out=bool(seconds) and not ended, status=201)


def wanted_wait(request: Request) -> float:
    """Return the seconds that the caller wants to wait, from the `Prefer` header; 0 without one."""
    for part in request.headers.get("Prefer", "").split(","):
        match = _WAIT.fullmatch(part.strip())
        if match:
            seconds = float(match.group(1)) if match.group(1) else predictions.WAIT_AT_MOST
            return min(seconds, predictions.WAIT_AT_MOST)
    return 0.0


def site_hosts(request: Request) -> set[str]:
    """Return the host names of this site that may occur in URLs."""
    return {request.get_host(), urlsplit(settings.BASE_URL).netloc}


def _source(request: Request, version: Version, reference: str) -> JobInput:
    owner = caller(request)
    picture = predictions.find_picture(owner=owner, reference=reference, hosts=site_hosts(request))
    if picture.file is not None:
        return services.source_from_file(owner=owner, file_id=picture.file.pk)
    return services.source_from_bytes(data=picture.data, name=f"{version.listing.name}")


def _answer(
    request: Request, job: Job, *, inline: bool = False, timed_out: bool = False, status: int = 200
) -> Response:
    context = {"request": request, "inline": inline, "timed_out": timed_out, "placed": True}
    return Response(PredictionSerializer(job, context=context).data, status=status)
