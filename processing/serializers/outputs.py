"""Serializers of API responses: predictions, jobs, items, quotes and previews."""

import base64
from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from drive.models import File
from drive.serializers.files import content_url, file_url
from drive.storage import blobs
from market.listings.io_schema import PICTURE, data_labels_of, outputs_of
from processing.fleet import registry
from processing.jobs import predictions
from processing.models import Item, Job, State
from processing.reporting import progress

# Results up to this many bytes are inlined in a response that allows it.
INLINE_MAX_BYTES = 4 * 2**20
NO_WORKER = "No worker serves this queue right now. The job starts by itself when one connects.\n"


class MetricsSerializer(serializers.Serializer[Any]):
    """Time that a run took."""

    predict_time = serializers.FloatField(
        required=False, help_text="Seconds of work; missing before the end."
    )


class PlaceSerializer(serializers.Serializer[Any]):
    """Position of a waiting run in its queue."""

    before = serializers.IntegerField(help_text="Images of yours that run first.")
    others = serializers.IntegerField(help_text="Other accounts with work in the same queue. You take turns.")


class PredictionUrlsSerializer(serializers.Serializer[Any]):
    """URLs of a run."""

    get = serializers.URLField()
    cancel = serializers.URLField()
    web = serializers.URLField()


class RunSerializer(serializers.Serializer[Job]):
    """Common fields of predictions and jobs.

    With `placed` in the context, a waiting run has its position in the queue.
    """

    id = serializers.UUIDField()
    model = serializers.SerializerMethodField(help_text="`owner/name`.")
    version = serializers.UUIDField(source="version_id")
    status = serializers.SerializerMethodField()
    input = serializers.SerializerMethodField()
    output = serializers.SerializerMethodField()
    logs = serializers.SerializerMethodField(help_text="A note if no worker serves the queue; else empty.")
    error = serializers.SerializerMethodField(help_text="Why it failed, as a sentence; else null.")
    metrics = serializers.SerializerMethodField()
    place = serializers.SerializerMethodField(
        help_text="Position in the queue, only for a single waiting run; else null."
    )
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
        values: dict[str, Any] = job.input
        return values

    def get_logs(self, job: Job) -> str:
        if job.state != State.STARTING:
            return ""
        return "" if self.is_served(job) else NO_WORKER

    @extend_schema_field(PlaceSerializer(allow_null=True))
    def get_place(self, job: Job) -> dict[str, int] | None:
        if not self.context.get("placed") or job.state != State.STARTING:
            return None
        before, others = progress.ahead_of(job)
        return {"before": before, "others": others}

    def is_served(self, job: Job) -> bool:
        """Return whether a worker serves the queue of a job. The fleet is queried once per page."""
        context: dict[str, Any] = self.context  # type: ignore[assignment]  # it is the dict that views pass
        if "served" not in context:
            context["served"] = registry.served_queues()
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
    """A run of an app or a model on one image.

    With `inline` in the context, results of a few megabytes are data URIs if the request came without TLS:
    clients treat an output as a file only if it begins with `https:` or `data:`.
    With `timed_out`, a running prediction has the status `starting`, so that clients poll again.
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
            "description": "The URI of the result, or an object of URIs by label if there are several; null "
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
        timings: Mapping[str, float] = _only_item(job).timings
        if not timings:
            return super().get_metrics(job)
        return {"predict_time": round(sum(ms for s, ms in timings.items() if s != "wait") / 1000, 6)}


def describe_output(job: Job, item: Item, address: Any) -> Any:
    """Return the results of an item: the value itself if its version has one output, else by label."""
    if item.state != State.SUCCEEDED:
        return None
    values: dict[str, Any] = {label: address(f) for label, f in predictions.output_files(item).items()}
    outputs = outputs_of(job.version)
    if item.output is not None:
        # Data are returned inline, although a file has them too.
        values.update(_label_data(job, item.output))
    labels = [output.label for output in outputs] or list(values)
    if len(labels) == 1:
        return values.get(labels[0])
    return values


def _label_data(job: Job, data: Any) -> dict[str, Any]:
    """Return data by output label. Data of several steps have one label for each step."""
    step_labels = data_labels_of(job.version)
    if len(step_labels) == 1:
        return {step_labels[0][1]: data}
    by_step = isinstance(data, dict) and data.keys() <= {name for name, _label in step_labels}
    return {label: data[name] for name, label in step_labels if name in data} if by_step else {"data": data}


def _only_item(job: Job) -> Item:
    item: Item = job.items.all()[0]
    return item


class QueueSerializer(serializers.Serializer[Any]):
    """Queue of a run."""

    name = serializers.CharField()
    served = serializers.BooleanField(help_text="Whether a worker serves it now.")


class PriceSerializer(serializers.Serializer[Any]):
    """Price of a job, in millicredits."""

    quoted = serializers.IntegerField(help_text="The highest possible price.")
    charged = serializers.IntegerField(help_text="The price so far. Reused and failed images cost nothing.")


class OptionsSerializer(serializers.Serializer[Any]):
    """How results are written and stored."""

    format = serializers.CharField(allow_null=True, help_text="Null: chosen for each image.")
    quality = serializers.IntegerField()
    keep_folders = serializers.BooleanField()
    reuse = serializers.BooleanField()


class QuoteSerializer(serializers.Serializer[Any]):
    """The highest price and the expected time of a job."""

    total = serializers.IntegerField(source="pictures", help_text="Number of images.")
    price = serializers.IntegerField(help_text="The highest price, in millicredits.")
    price_each = serializers.IntegerField(help_text="Price of one delivered image, in millicredits.")
    seconds = serializers.FloatField(
        allow_null=True,
        help_text="Estimated seconds until the last image, including waiting work, from timings of recent "
        "images. Null if no worker serves the queue.",
    )
    queue = serializers.SerializerMethodField()

    @extend_schema_field(QueueSerializer)
    def get_queue(self, quote: Any) -> dict[str, Any]:
        return {"name": quote.queue, "served": quote.served}


class JobUrlsSerializer(PredictionUrlsSerializer):
    """URLs of a run."""

    items = serializers.URLField(help_text="The items, one for each image.")


class JobSerializer(RunSerializer):
    """A run of an app or a model on many images."""

    route = "job"
    total = serializers.IntegerField(help_text="Number of images.")
    done = serializers.IntegerField(help_text="Images that ended in any state.")
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    canceled = serializers.IntegerField()
    reused = serializers.IntegerField(help_text="Succeeded images with a reused earlier result.")
    price = serializers.SerializerMethodField()
    max_price = serializers.IntegerField(allow_null=True, help_text="In millicredits.")
    options = OptionsSerializer()
    deadline_at = serializers.DateTimeField(allow_null=True)
    ending = serializers.CharField(
        help_text="Why it ended before its last image: `person`, `deadline`; else empty."
    )
    again_of = serializers.UUIDField(
        source="again_of_id", allow_null=True, help_text="The job that it repeats."
    )
    output_folder = serializers.UUIDField(source="output_folder_id", allow_null=True)
    queue = serializers.SerializerMethodField()

    @extend_schema_field({"type": "null", "description": "Always null. Results are in the items."})
    def get_output(self, job: Job) -> None:
        return None

    def get_error(self, job: Job) -> str | None:
        if job.state != State.FAILED:
            return None
        return "All images failed. Each item says why."

    @extend_schema_field(JobUrlsSerializer)
    def get_urls(self, job: Job) -> dict[str, str]:
        items = self.context["request"].build_absolute_uri(reverse("v1:job-items", args=[job.pk]))
        return {**super().get_urls(job), "items": items}

    @extend_schema_field(PriceSerializer)
    def get_price(self, job: Job) -> dict[str, int]:
        return {"quoted": job.price_quoted, "charged": job.price_charged}

    @extend_schema_field(QueueSerializer)
    def get_queue(self, job: Job) -> dict[str, Any]:
        return {"name": job.queue, "served": self.is_served(job)}


class ErrorSerializer(serializers.Serializer[Any]):
    """Error of a failed item."""

    code = serializers.CharField(help_text="Error code for programs: `truncated`, `too_slow`, …")
    message = serializers.CharField(help_text="Error message for people.")


class ItemSerializer(serializers.Serializer[Item]):
    """One image of a job."""

    id = serializers.UUIDField()
    position = serializers.IntegerField(help_text="Counts from 0.")
    name = serializers.CharField()
    status = serializers.ChoiceField(source="state", choices=State.choices)
    input_file = serializers.UUIDField(source="input_file_id", allow_null=True)
    output_file = serializers.SerializerMethodField(
        help_text="Id of the result image, or of the first result."
    )
    output = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    attempts = serializers.IntegerField()
    timings = serializers.DictField(
        child=serializers.FloatField(),
        help_text="Milliseconds by stage: wait, fetch, decode, run, encode, thumbnail, store.",
    )
    worker = serializers.CharField(allow_blank=True)
    device = serializers.CharField(allow_blank=True)
    input = serializers.DictField(allow_null=True, help_text="Parameters of this image; null if it has none.")
    reused = serializers.BooleanField(help_text="Whether an earlier result was reused.")
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_output_file(self, item: Item) -> object:
        return next((file.pk for file in predictions.output_files(item).values()), None)

    @extend_schema_field(
        {
            "description": "The URL of the result, or an object of URLs by label if there are several; null "
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


class HardwareSerializer(serializers.Serializer[Any]):
    """Available hardware."""

    sku = serializers.CharField(help_text="`cpu` or `gpu`.")
    name = serializers.CharField()


class PreviewAnswerSerializer(serializers.Serializer[Any]):
    """A preview as JSON."""

    content_type = serializers.CharField(help_text="Content type of the image.")
    image = serializers.CharField(help_text="The reduced image, in base64.")
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    texts = serializers.DictField(child=serializers.CharField(), help_text="Texts by label.")
    data = serializers.JSONField(  # type: ignore[assignment]  # a field, not the attribute
        help_text="Data of the app, such as detections; null if there are none."
    )
    timings = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds by stage.")
