"""Predictions, jobs and their items as the API tells and takes them."""

import base64
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, serializers

from drive import blobs
from drive.models import File
from drive.serializers.files import content_url, file_url
from ipau.common.api import PageQuery, StrictSerializer
from ipau.common.errors import Invalid
from market.contract import PICTURE, outputs_of
from processing import fleet, predictions
from processing.models import Item, Job, State

# Up to these many bytes a result goes into the answer itself, where the client asked for it to be there.
INLINE_MAX_BYTES = 4 * 2**20
NO_WORKER = "No worker runs this kind of work just now. It starts by itself as soon as one is there.\n"


# --- What comes in ------------------------------------------------------------------------------------


class PredictionInputSerializer(serializers.Serializer[Any]):
    """What to run on, and the parameters of the app or model."""

    # Clients of hosted inference send more than we know; what would change the outcome is refused by name.
    input = serializers.DictField(
        help_text="`image` names the picture: the `urls.get` of a file of yours, its id, or a data URI. All "
        "else are parameters; those left out take their defaults."
    )
    webhook = serializers.CharField(required=False, allow_null=True, help_text="Not offered: refused.")

    def validate_webhook(self, address: str | None) -> None:
        if address:
            raise exceptions.ValidationError("Webhooks are not offered. Ask again, or send `Prefer: wait`.")

    def validate_input(self, given: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(given.get(PICTURE), str):
            message = "Name the picture to run on: the address or id of a file of yours, or a data URI."
            raise Invalid(message, fields={PICTURE: message})
        return given


class VersionedInputSerializer(PredictionInputSerializer):
    """As above, with the version to run."""

    version = serializers.CharField(
        help_text="A version's id, `owner/name` for the newest, or `owner/name:id`."
    )


class JobInputSerializer(StrictSerializer):
    """An app or a model, its parameters, and the pictures to run it on."""

    model = serializers.CharField(required=False, help_text="`owner/name`, for its newest version.")
    version = serializers.CharField(required=False, help_text="A version's id, or `owner/name:id`.")
    input = serializers.DictField(required=False, default=dict, help_text="Parameters.")
    files = serializers.ListField(
        child=serializers.UUIDField(), required=False, help_text="Ids of files of yours."
    )
    folder = serializers.UUIDField(
        required=False, help_text="A folder of yours: all pictures in it and in its folders."
    )
    output_folder = serializers.UUIDField(
        required=False, help_text="Where results go; without one, into a new folder named after the app."
    )

    def validate_files(self, ids: list[object]) -> list[object]:
        if len(ids) > settings.JOB_MAX_FILES:
            raise exceptions.ValidationError(f"A job takes {settings.JOB_MAX_FILES:,} pictures at most.")
        return ids

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("model" in attrs) == ("version" in attrs):
            raise exceptions.ValidationError({"model": "Name either a model or a version."})
        if not attrs.get("files") and "folder" not in attrs:
            raise exceptions.ValidationError(
                {"files": "There is no picture to run on: name files or a folder."}
            )
        return attrs


class PreviewFormSerializer(serializers.Serializer[Any]):
    """A picture, or a file's id, and an app's parameters as further fields."""

    image = serializers.FileField(required=False, help_text="The picture.")
    file = serializers.CharField(required=False, help_text="Or the id of a file of yours.")
    input = serializers.CharField(required=False, help_text="Parameters as a JSON object.")


class PreviewInputSerializer(serializers.Serializer[Any]):
    """The same as JSON."""

    image = serializers.CharField(help_text="A data URI, or the address or id of a file of yours.")
    input = serializers.DictField(required=False, help_text="Parameters.")


class ItemQuery(PageQuery):
    """Which items to list."""

    status = serializers.ChoiceField(required=False, choices=State.choices, help_text="Only these.")


# --- What goes out ------------------------------------------------------------------------------------


class MetricsSerializer(serializers.Serializer[Any]):
    """What it took."""

    predict_time = serializers.FloatField(required=False, help_text="Seconds of work; absent before the end.")


class PredictionUrlsSerializer(serializers.Serializer[Any]):
    """Where it is found."""

    get = serializers.URLField()
    cancel = serializers.URLField()
    web = serializers.URLField()


class RunSerializer(serializers.Serializer[Job]):
    """What predictions and jobs have in common."""

    id = serializers.UUIDField()
    model = serializers.SerializerMethodField(help_text="`owner/name`.")
    version = serializers.UUIDField(source="version_id")
    status = serializers.SerializerMethodField()
    input = serializers.SerializerMethodField()
    output = serializers.SerializerMethodField()
    logs = serializers.SerializerMethodField(help_text="Says so when no worker is there to begin.")
    error = serializers.SerializerMethodField(help_text="A sentence, where it failed.")
    metrics = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    urls = serializers.SerializerMethodField()
    route = ""

    def get_model(self, job: Job) -> str:
        listing = job.version.listing
        return f"{listing.owner.handle}/{listing.name}"

    @extend_schema_field(serializers.ChoiceField(choices=State.choices))
    def get_status(self, job: Job) -> str:
        return job.state

    def get_input(self, job: Job) -> dict[str, Any]:
        given: dict[str, Any] = job.input
        return given

    def get_logs(self, job: Job) -> str:
        if job.state != State.STARTING:
            return ""
        return "" if self.is_served(job) else NO_WORKER

    def is_served(self, job: Job) -> bool:
        """Tell whether a worker is there for a job; the fleet is asked once for a whole page."""
        context: dict[str, Any] = self.context  # type: ignore[assignment]  # it is the dict that we gave
        if "served" not in context:
            context["served"] = fleet.served_queues()
        return job.queue in context["served"]

    @extend_schema_field(MetricsSerializer)
    def get_metrics(self, job: Job) -> dict[str, float]:
        if job.started_at is None or job.completed_at is None:
            return {}
        return {"predict_time": round((job.completed_at - job.started_at).total_seconds(), 6)}

    @extend_schema_field(PredictionUrlsSerializer)
    def get_urls(self, job: Job) -> dict[str, str]:
        build = self.context["request"].build_absolute_uri
        return {
            "get": build(reverse(f"v1:{self.route}", args=[job.pk])),
            "cancel": build(reverse(f"v1:{self.route}-cancel", args=[job.pk])),
            "web": build(reverse("processing:job", args=[job.pk])),
        }


class PredictionSerializer(RunSerializer):
    """An app or a model run on one picture.

    With `inline` in the context, results of a few megabytes go into the answer itself where the site is
    reached without TLS: clients take an output for a file only if it begins with `https:` or `data:`.
    With `timed_out`, what still runs is told as `starting`, which clients take for «ask again».
    """

    route = "prediction"

    @extend_schema_field(serializers.ChoiceField(choices=State.choices))
    def get_status(self, job: Job) -> str:
        if self.context.get("timed_out") and job.is_open:
            return State.STARTING
        return job.state

    def get_input(self, job: Job) -> dict[str, Any]:
        item = _only_item(job)
        return {PICTURE: self._name_picture(item), **job.input}

    def _name_picture(self, item: Item) -> str:
        if item.input_file_id is None:
            return f"sha256:{item.blob_id}"
        return file_url(self.context["request"], item.input_file_id)

    @extend_schema_field(
        {
            "description": "A URI where there is one result, else an object of them by label; null "
            "before the end.",
            "oneOf": [
                {"type": "string", "format": "uri"},
                {"type": "object", "additionalProperties": {}},
                {"type": "null"},
            ],
        }
    )
    def get_output(self, job: Job) -> Any:
        return describe_output(job, _only_item(job), self._address)

    def _address(self, file: File) -> str:
        request = self.context["request"]
        if self.context.get("inline") and not request.is_secure() and file.size <= INLINE_MAX_BYTES:
            encoded = base64.b64encode(blobs.read(file.blob_id)).decode()
            return f"data:{file.content_type.replace(' ', '')};base64,{encoded}"
        return content_url(request, file.pk)

    def get_error(self, job: Job) -> str | None:
        return _only_item(job).error or None

    @extend_schema_field(MetricsSerializer)
    def get_metrics(self, job: Job) -> dict[str, float]:
        spent: Mapping[str, float] = _only_item(job).timings
        if not spent:
            return super().get_metrics(job)
        return {"predict_time": round(sum(ms for s, ms in spent.items() if s != "wait") / 1000, 6)}


def describe_output(job: Job, item: Item, address: Any) -> Any:
    """Return an item's results: the one thing itself where its version gives one, else by label."""
    if item.state != State.SUCCEEDED:
        return None
    found: dict[str, Any] = {label: address(f) for label, f in predictions.output_files(item).items()}
    if item.output is not None:
        found["data"] = item.output
    labels = [output.label for output in outputs_of(job.version)] or list(found)
    if len(labels) == 1:
        return found.get(labels[0])
    return found


def _only_item(job: Job) -> Item:
    item: Item = job.items.all()[0]
    return item


class QueueSerializer(serializers.Serializer[Any]):
    """Where the work waits."""

    name = serializers.CharField()
    served = serializers.BooleanField(help_text="Whether a worker takes work from it now.")


class JobUrlsSerializer(PredictionUrlsSerializer):
    """Where it is found."""

    items = serializers.URLField(help_text="Its items, one for each picture.")


class JobSerializer(RunSerializer):
    """An app or a model run on many pictures."""

    route = "job"
    total = serializers.IntegerField(help_text="Pictures in all.")
    done = serializers.IntegerField(help_text="Pictures that ended, in whatever way.")
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    canceled = serializers.IntegerField()
    output_folder = serializers.UUIDField(source="output_folder_id", allow_null=True)
    queue = serializers.SerializerMethodField()

    @extend_schema_field({"type": "null", "description": "Always null: results are in the items."})
    def get_output(self, job: Job) -> None:
        return None

    def get_error(self, job: Job) -> str | None:
        if job.state != State.FAILED:
            return None
        return "None of the pictures could be processed. Each item says why."

    @extend_schema_field(JobUrlsSerializer)
    def get_urls(self, job: Job) -> dict[str, str]:
        items = self.context["request"].build_absolute_uri(reverse("v1:job-items", args=[job.pk]))
        return {**super().get_urls(job), "items": items}

    @extend_schema_field(QueueSerializer)
    def get_queue(self, job: Job) -> dict[str, Any]:
        return {"name": job.queue, "served": self.is_served(job)}


class ErrorSerializer(serializers.Serializer[Any]):
    """Why an item failed."""

    code = serializers.CharField(help_text="For programs: `truncated`, `too_slow`, …")
    message = serializers.CharField(help_text="A sentence for people.")


class ItemSerializer(serializers.Serializer[Item]):
    """One picture of a job."""

    id = serializers.UUIDField()
    position = serializers.IntegerField(help_text="Counts from 0.")
    name = serializers.CharField()
    status = serializers.ChoiceField(source="state", choices=State.choices)
    input_file = serializers.UUIDField(source="input_file_id", allow_null=True)
    output_file = serializers.SerializerMethodField(
        help_text="The picture's id, or that of the first result."
    )
    output = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    attempts = serializers.IntegerField()
    timings = serializers.DictField(
        child=serializers.FloatField(),
        help_text="Milliseconds by stage: wait, fetch, decode, run, encode, thumbnail, store.",
    )
    worker = serializers.CharField(allow_blank=True)
    reused = serializers.SerializerMethodField(
        help_text="Whether an earlier result was taken. Never, so far."
    )
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_output_file(self, item: Item) -> object:
        return next((file.pk for file in predictions.output_files(item).values()), None)

    @extend_schema_field(
        {
            "description": "An address where there is one result, else an object of them by label; null "
            "before the end.",
            "oneOf": [
                {"type": "string", "format": "uri"},
                {"type": "object", "additionalProperties": {}},
                {"type": "null"},
            ],
        }
    )
    def get_output(self, item: Item) -> Any:
        request = self.context["request"]
        return describe_output(item.job, item, lambda file: content_url(request, file.pk))

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, item: Item) -> dict[str, str] | None:
        return {"code": item.error_code, "message": item.error} if item.error_code or item.error else None

    def get_reused(self, item: Item) -> bool:
        return False


class HardwareSerializer(serializers.Serializer[Any]):
    """A kind of machine that is there now."""

    sku = serializers.CharField(help_text="`cpu` or `gpu`.")
    name = serializers.CharField()


class PreviewAnswerSerializer(serializers.Serializer[Any]):
    """A preview for a client that asks for JSON."""

    content_type = serializers.CharField(help_text="Of the picture.")
    image = serializers.CharField(help_text="The reduced picture, in base64.")
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    texts = serializers.DictField(child=serializers.CharField(), help_text="Texts by label.")
    data = serializers.JSONField(  # type: ignore[assignment]  # a field, not the attribute
        help_text="Whatever else the app found; null without."
    )
    timings = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds by stage.")
