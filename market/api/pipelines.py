"""API endpoints of pipelines. A pipeline runs like a model: as `owner/name`."""

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from ipau.common.api.views import IDEMPOTENCY_KEY, ApiView, idempotency_key, page_of, page_response, validated
from ipau.common.errors import NotFound
from market.pipelines import services
from market.pipelines.model_steps import ModelStep, with_models
from market.serializers.pipelines import PipelineChangeSerializer, PipelineInputSerializer, PipelineSerializer
from workers.recipe import Step


class PipelineList(ApiView):
    """Pipelines of the caller."""

    @extend_schema(
        operation_id="pipelines_list",
        summary="List your pipelines",
        tags=["Pipelines"],
        responses=page_of(PipelineSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first. Pipelines shared by others are in the list of models."""
        rows = with_models(services.list_pipelines(owner=caller(request)))
        return page_response(request, rows, PipelineSerializer)

    @extend_schema(
        operation_id="pipelines_create",
        summary="Create a pipeline",
        tags=["Pipelines"],
        parameters=[IDEMPOTENCY_KEY],
        request=PipelineInputSerializer,
        responses={201: PipelineSerializer},
    )
    def post(self, request: Request) -> Response:
        """Each run can set every parameter of every step, as `step.parameter`."""
        sent = validated(PipelineInputSerializer(data=request.data))
        steps = _steps(sent.pop("steps"))
        pipeline = services.create_pipeline(
            owner=caller(request), steps=steps, idempotency_key=idempotency_key(request), **sent
        )
        return Response(_detail(request, pipeline.owner.handle, pipeline.name), status=201)


class PipelineDetail(ApiView):
    """One pipeline."""

    @extend_schema(
        operation_id="pipelines_get",
        summary="Get a pipeline",
        tags=["Pipelines"],
        responses=PipelineSerializer,
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Your own or a shared pipeline."""
        return Response(_detail(request, owner, name))

    @extend_schema(
        operation_id="pipelines_change",
        summary="Change a pipeline",
        tags=["Pipelines"],
        request=PipelineChangeSerializer,
        responses=PipelineSerializer,
    )
    def patch(self, request: Request, owner: str, name: str) -> Response:
        """New `steps` create a new version. Jobs keep their version."""
        _check_own(request, owner, name)
        sent = validated(PipelineChangeSerializer(data=request.data))
        steps = _steps(sent.pop("steps")) if "steps" in sent else None
        new_name = sent.pop("name", None)
        pipeline = services.change_pipeline(
            owner=caller(request), name=name, new_name=new_name, steps=steps, **sent
        )
        return Response(_detail(request, owner, pipeline.name))

    @extend_schema(
        operation_id="pipelines_delete",
        summary="Delete a pipeline",
        tags=["Pipelines"],
        responses={204: None},
    )
    def delete(self, request: Request, owner: str, name: str) -> Response:
        """Its jobs and their results stay."""
        _check_own(request, owner, name)
        services.delete_pipeline(owner=caller(request), name=name)
        return Response(status=204)


def _steps(sent: Sequence[dict[str, Any]]) -> list[Step | ModelStep]:
    return [_step(step) for step in sent]


def _step(sent: dict[str, Any]) -> Step | ModelStep:
    params = sent.get("params", {})
    if not sent.get("model"):
        return Step(operation=sent["operation"], params=params)
    owner, _slash, name = sent["model"].partition("/")
    return ModelStep(owner, name, sent.get("version"), params)


def _detail(request: Request, owner: str, name: str) -> dict[str, Any]:
    listing = services.get_pipeline(user=caller(request), owner=owner, name=name)
    return dict(PipelineSerializer(listing, context={"request": request}).data)


def _check_own(request: Request, owner: str, name: str) -> None:
    """Raise NotFound if the caller is not the owner, even of a shared pipeline."""
    if owner != caller(request).handle:
        raise NotFound(f"You have no pipeline “{owner}/{name}”.")
