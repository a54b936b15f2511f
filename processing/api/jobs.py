"""API views of jobs and quotes, and of the available hardware."""

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
    """List and create jobs of the caller."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_list", summary="List jobs", tags=["Jobs"], responses=page_of(JobSerializer)
    )
    def get(self, request: Request) -> Response:
        """Newest first. Predictions are listed at /v1/predictions."""
        return page_response(request, services.list_jobs(owner=caller(request)), JobSerializer)

    @extend_schema(
        operation_id="jobs_create",
        summary="Run an app or a model on many images",
        tags=["Jobs"],
        parameters=[IDEMPOTENCY_KEY],
        request=JobInputSerializer,
        responses={201: JobSerializer},
    )
    def post(self, request: Request) -> Response:
        """The response comes at once. Poll `urls.get` for progress."""
        spec = _read_job(request)
        job = services.submit_job(**spec, idempotency_key=idempotency_key(request))
        return Response(JobSerializer(job, context={"request": request}).data, status=201)


class QuoteView(ApiView):
    """Quote the price and time of a job."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="quotes_create",
        summary="Get the highest price and expected time of a job",
        tags=["Jobs"],
        request=JobInputSerializer,
        responses=QuoteSerializer,
    )
    def post(self, request: Request) -> Response:
        """Accepts the same input as creating a job, with the same errors. Nothing is created."""
        return Response(QuoteSerializer(services.quote_job(**_read_job(request))).data)


def _read_job(request: Request) -> dict[str, Any]:
    """Return the validated request as keyword arguments of the job services."""
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
    folder_id = sent.get("output_folder")
    return Terms(
        options=Options(**{option: sent[name] for option, name in _OPTIONS.items() if name in sent}),
        output_folder=drive.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
        deadline_at=sent.get("deadline_at"),
        max_price=sent.get("max_price"),
        mail_when_done=sent.get("mail_when_done", False),
        **webhook_terms(sent),
    )


class JobDetail(ApiView):
    """Get one job."""

    @extend_schema(operation_id="jobs_get", summary="Get a job", tags=["Jobs"], responses=JobSerializer)
    def get(self, request: Request, job_id: UUID) -> Response:
        job = services.get_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request, "placed": True}).data)


class JobItemList(ApiView):
    """List the items of one job."""

    @extend_schema(
        operation_id="jobs_items_list",
        summary="List the items of a job",
        tags=["Jobs"],
        parameters=[ItemQuery],
        responses=page_of(ItemSerializer),
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """In the order of submission."""
        query = validated(ItemQuery(data=request.query_params))
        job = services.get_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        rows = services.list_items(job=job, state=query.get("status"))
        return page_response(request, rows, ItemSerializer, order=("position",))


class JobCancel(ApiView):
    """Cancel a job."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_cancel",
        summary="Cancel a job",
        tags=["Jobs"],
        request=None,
        responses=JobSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Finished results are kept."""
        job = services.cancel_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request}).data)


class JobRetry(ApiView):
    """Retry failed and canceled items of a job."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="jobs_retry",
        summary="Retry failed items of a job",
        tags=["Jobs"],
        request=None,
        responses=JobSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Failed and canceled items wait again. Succeeded items are kept.

        409 if there is nothing to retry. A deadline that has passed is removed.
        """
        job = services.retry_job(owner=caller(request), job_id=job_id, kind=JobKind.JOB)
        return Response(JobSerializer(job, context={"request": request}).data)


class JobAgain(ApiView):
    """Run a job again."""

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
        """Creates a new job of the same version on the same images, without those that no longer exist."""
        sent = validated(AgainInputSerializer(data=request.data))
        job = services.repeat_job(
            owner=caller(request),
            job_id=job_id,
            params=sent["input"],
            idempotency_key=idempotency_key(request),
        )
        return Response(JobSerializer(job, context={"request": request}).data, status=201)


class HardwareList(ApiView):
    """List the available hardware."""

    @extend_schema(
        operation_id="hardware_list",
        summary="List the available hardware",
        tags=["Account"],
        responses=HardwareSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        slots = registry.served_queues()
        available = [{"sku": sku, "name": name} for sku, name in _HARDWARE.items() if sku in slots]
        return Response(HardwareSerializer(available, many=True).data)
