"""Jobs over many pictures, and the fleet, over the API."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import Scope, User
from drive.files import services as drive
from ipau.common.api.views import IDEMPOTENCY_KEY, ApiView, idempotency_key, page_of, page_response, validated
from processing import services
from processing.execution.output_options import Options
from processing.fleet import registry
from processing.jobs import manifests, predictions
from processing.models import JobKind
from processing.serializers import (
    AgainInputSerializer,
    HardwareSerializer,
    ItemQuery,
    ItemSerializer,
    JobInputSerializer,
    JobSerializer,
    QuoteSerializer,
)
from processing.serializers.webhooks import webhook_terms
from processing.services import Terms

_OPTIONS = {
    "format": "output_format",
    "quality": "output_quality",
    "keep_folders": "keep_folders",
    "reuse": "reuse",
}
_HARDWARE = {"cpu": "CPU", "gpu": "GPU"}


class JobList(ApiView):
    """Jobs of the caller."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_list", summary="List jobs", tags=["Jobs"], responses=page_of(JobSerializer)
    )
    def get(self, request: Request) -> Response:
        """Newest first. Predictions are listed at /v1/predictions."""
        return page_response(request, services.list_jobs(owner=caller(request)), JobSerializer)

    @extend_schema(
        operation_id="jobs_create",
        summary="Run an app or a model on many pictures",
        tags=["Jobs"],
        parameters=[IDEMPOTENCY_KEY],
        request=JobInputSerializer,
        responses={201: JobSerializer},
    )
    def post(self, request: Request) -> Response:
        """Answers at once; ask `urls.get` how far it is."""
        asked = _read(request)
        job = services.submit_job(**asked, idempotency_key=idempotency_key(request))
        return Response(JobSerializer(job, context={"request": request}).data, status=201)


class QuoteView(ApiView):
    """What a job would cost."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="quotes_create",
        summary="Ask what a job would cost at most and how long it may take",
        tags=["Jobs"],
        request=JobInputSerializer,
        responses=QuoteSerializer,
    )
    def post(self, request: Request) -> Response:
        """Takes what creating a job takes, and refuses what it would refuse. Nothing is made."""
        return Response(QuoteSerializer(services.quote_job(**_read(request))).data)


def _read(request: Request) -> dict[str, Any]:
    """Return what was asked for, as services take it."""
    sent = validated(JobInputSerializer(data=request.data))
    owner = caller(request)
    items = sent.get("items", [])
    rows = manifests.rows_of(items)
    named = sent.get("files", []) or "folder" in sent
    version = predictions.find_version(user=owner, reference=sent.get("version") or sent["model"])
    if not named:
        manifests.check_there(owner=owner, rows=rows)
    return {
        "owner": owner,
        "version": version,
        "params": sent["input"],
        "selection": drive.select(
            owner=owner,
            folder_ids=[sent["folder"]] if "folder" in sent else [],
            file_ids=sent.get("files", []) if named else [item["file"] for item in items],
        ),
        "table": rows,
        "terms": _terms(owner, sent),
    }


def _terms(owner: User, sent: dict[str, Any]) -> Terms:
    into = sent.get("output_folder")
    return Terms(
        options=Options(**{option: sent[name] for option, name in _OPTIONS.items() if name in sent}),
        output_folder=drive.get_folder(owner=owner, folder_id=into) if into else None,
        deadline_at=sent.get("deadline_at"),
        max_price=sent.get("max_price"),
        mail_when_done=sent.get("mail_when_done", False),
        **webhook_terms(sent),
    )


class JobDetail(ApiView):
    """One job."""

    @extend_schema(operation_id="jobs_get", summary="Look at a job", tags=["Jobs"], responses=JobSerializer)
    def get(self, request: Request, job_id: UUID) -> Response:
        job = services.get_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request, "placed": True}).data)


class JobItemList(ApiView):
    """The pictures of one job."""

    @extend_schema(
        operation_id="jobs_items_list",
        summary="List the items of a job",
        tags=["Jobs"],
        parameters=[ItemQuery],
        responses=page_of(ItemSerializer),
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """In the order in which they were submitted."""
        asked = validated(ItemQuery(data=request.query_params))
        job = services.get_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        rows = services.list_items(job=job, state=asked.get("status"))
        return page_response(request, rows, ItemSerializer, order=("position",))


class JobCancel(ApiView):
    """The end of a job."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_cancel",
        summary="Cancel a job",
        tags=["Jobs"],
        request=None,
        responses=JobSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """What has been finished stays."""
        job = services.cancel_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request}).data)


class JobRetry(ApiView):
    """Another attempt at what failed."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_retry",
        summary="Retry what failed of a job",
        tags=["Jobs"],
        request=None,
        responses=JobSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """What failed waits again, and what was canceled with the job; what succeeded stays.

        409 where there is nothing to retry. A deadline that has passed is removed.
        """
        job = services.retry_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request}).data)


class JobAgain(ApiView):
    """A job, once more."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_again",
        summary="Run a job again",
        tags=["Jobs"],
        parameters=[IDEMPOTENCY_KEY],
        request=AgainInputSerializer,
        responses={201: JobSerializer},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Makes a new job of the same version over the same pictures, as far as they are still there."""
        sent = validated(AgainInputSerializer(data=request.data))
        job = services.repeat_job(
            owner=caller(request),
            job_id=job_id,
            params=sent["input"],
            idempotency_key=idempotency_key(request),
        )
        return Response(JobSerializer(job, context={"request": request}).data, status=201)


class HardwareList(ApiView):
    """What the fleet runs on."""

    @extend_schema(
        operation_id="hardware_list",
        summary="List the hardware that is there now",
        tags=["Account"],
        responses=HardwareSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        slots = registry.served_queues()
        there = [{"sku": sku, "name": name} for sku, name in _HARDWARE.items() if sku in slots]
        return Response(HardwareSerializer(there, many=True).data)
