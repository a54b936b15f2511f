"""What goes out over the API: predictions, jobs and their items as it tells them."""

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

# Up to these many bytes a result goes into the answer itself, where the client asked for it to be there.
INLINE_MAX_BYTES = 4 * 2**20
NO_WORKER = "No worker runs this kind of work just now. It starts by itself as soon as one is there.\n"


class MetricsSerializer(serializers.Serializer[Any]):
    """What it took."""

    predict_time = serializers.FloatField(required=False, help_text="Seconds of work; absent before the end.")


class PlaceSerializer(serializers.Serializer[Any]):
    """What runs before it."""

    before = serializers.IntegerField(help_text="Pictures of yours that run first.")
    others = serializers.IntegerField(help_text="Other people with work in the same queue: you take turns.")


class PredictionUrlsSerializer(serializers.Serializer[Any]):
    """Where it is found."""

    get = serializers.URLField()
    cancel = serializers.URLField()
    web = serializers.URLField()


class RunSerializer(serializers.Serializer[Job]):
    """What predictions and jobs have in common.

    With `placed` in the context, as for a single one, it is told where one that waits stands in its queue.
    """

    id = serializers.UUIDField()
    model = serializers.SerializerMethodField(help_text="`owner/name`.")
    version = serializers.UUIDField(source="version_id")
    status = serializers.SerializerMethodField()
    input = serializers.SerializerMethodField()
    output = serializers.SerializerMethodField()
    logs = serializers.SerializerMethodField(help_text="Says so when no worker is there to begin.")
    error = serializers.SerializerMethodField(help_text="A sentence, where it failed.")
    metrics = serializers.SerializerMethodField()
    place = serializers.SerializerMethodField(
        help_text="Its place in the queue while it waits, where it is asked for by its address; else null."
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
        given: dict[str, Any] = job.input
        return given

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
        """Tell whether a worker is there for a job; the fleet is asked once for a whole page."""
        context: dict[str, Any] = self.context  # type: ignore[assignment]  # it is the dict that we gave
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
    outputs = outputs_of(job.version)
    if item.output is not None:
        # Data are told as they are, though a file has them too.
        found.update(_label_data(job, item.output))
    labels = [output.label for output in outputs] or list(found)
    if len(labels) == 1:
        return found.get(labels[0])
    return found


def _label_data(job: Job, data: Any) -> dict[str, Any]:
    """Return data by the labels under which they are delivered; those of several steps come by step."""
    told = data_labels_of(job.version)
    if len(told) == 1:
        return {told[0][1]: data}
    by_step = isinstance(data, dict) and data.keys() <= {name for name, _label in told}
    return {label: data[name] for name, label in told if name in data} if by_step else {"data": data}


def _only_item(job: Job) -> Item:
    item: Item = job.items.all()[0]
    return item


class QueueSerializer(serializers.Serializer[Any]):
    """Where the work waits."""

    name = serializers.CharField()
    served = serializers.BooleanField(help_text="Whether a worker takes work from it now.")


class PriceSerializer(serializers.Serializer[Any]):
    """In millicredits."""

    quoted = serializers.IntegerField(help_text="The most that it can cost.")
    charged = serializers.IntegerField(
        help_text="What was delivered costs; reused and failed pictures cost nothing."
    )


class OptionsSerializer(serializers.Serializer[Any]):
    """How results are written and kept."""

    format = serializers.CharField(allow_null=True, help_text="Null: as fits each picture.")
    quality = serializers.IntegerField()
    keep_folders = serializers.BooleanField()
    reuse = serializers.BooleanField()


class QuoteSerializer(serializers.Serializer[Any]):
    """What a job would cost at most and how long it may take."""

    total = serializers.IntegerField(source="pictures", help_text="Pictures in all.")
    price = serializers.IntegerField(help_text="At most, in millicredits.")
    price_each = serializers.IntegerField(help_text="For one delivered picture, in millicredits.")
    seconds = serializers.FloatField(
        allow_null=True,
        help_text="Until the last picture, with what waits before it; an estimate from what pictures have "
        "taken lately. Null where no worker serves the queue.",
    )
    queue = serializers.SerializerMethodField()

    @extend_schema_field(QueueSerializer)
    def get_queue(self, quote: Any) -> dict[str, Any]:
        return {"name": quote.queue, "served": quote.served}


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
    reused = serializers.IntegerField(help_text="Of those that succeeded: results that you had already.")
    price = serializers.SerializerMethodField()
    max_price = serializers.IntegerField(allow_null=True, help_text="In millicredits.")
    options = OptionsSerializer()
    deadline_at = serializers.DateTimeField(allow_null=True)
    ending = serializers.CharField(
        help_text="Why it ended before its last picture: `person`, `deadline`; else empty."
    )
    again_of = serializers.UUIDField(source="again_of_id", allow_null=True, help_text="The job it repeats.")
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

    @extend_schema_field(PriceSerializer)
    def get_price(self, job: Job) -> dict[str, int]:
        return {"quoted": job.price_quoted, "charged": job.price_charged}

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
    device = serializers.CharField(allow_blank=True)
    input = serializers.DictField(allow_null=True, help_text="Its own parameters; null without.")
    reused = serializers.BooleanField(help_text="Whether an earlier result was taken.")
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
