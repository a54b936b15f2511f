"""Serializers of the weights of a version: facts, speeds and samples."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from market.models import DeviceKind, JobSpeed, Speed, Weights
from market.weights.report import CLASSES_SHOWN, flops_size
from market.weights.samples import AnySample, shown_samples
from workers.tasks import TASKS

*_TASKS, _LAST_TASK = TASKS
_COUNTED_SIZE = f"{TASKS['image'].usual_side} × {TASKS['image'].usual_side}"


class SpeedSerializer(serializers.Serializer[Speed]):
    """Time per sample image in the trial on one device, including decoding and encoding."""

    kind = serializers.ChoiceField(choices=DeviceKind.choices)
    device = serializers.CharField(help_text="Name of the device.")
    first_ms = serializers.FloatField(help_text="First image, including loading the model.")
    each_ms = serializers.FloatField(allow_null=True, help_text="Median of later images.")
    width = serializers.IntegerField(help_text="Width of the images, in pixels.")
    height = serializers.IntegerField(help_text="Height of the images, in pixels.")


class JobSpeedSerializer(serializers.Serializer[JobSpeed]):
    """Time per image in jobs on one device: images of all accounts and sizes, without reused results."""

    kind = serializers.ChoiceField(choices=DeviceKind.choices)
    device = serializers.CharField(help_text="Name of the device.")
    pictures = serializers.IntegerField(help_text="Number of images that the means are computed over.")
    each_ms = serializers.FloatField(
        help_text="Mean time that a slot spent per image, from fetching to storing. A GPU slot processes "
        "several images at once."
    )
    run_ms = serializers.FloatField(
        source="each_run_ms",
        help_text="Mean time of an image in the model's step. On a GPU, images overlap, so this may be more "
        "than `each_ms`.",
    )


class SampleSerializer(serializers.Serializer[AnySample]):
    """A sample image and the result of the model."""

    before = serializers.SerializerMethodField(
        help_text="URL of a WebP; null for models that generate from noise."
    )
    after = serializers.SerializerMethodField(help_text="URL of a WebP; null for classifiers.")
    found = serializers.JSONField(
        source="seen", help_text="Detected classes: `name`, and `count` or `confidence`."
    )

    def get_before(self, row: AnySample) -> str | None:
        return self._url(row, "before") if row.before_id else None

    def get_after(self, row: AnySample) -> str | None:
        return self._url(row, "after") if row.after_id else None

    def _url(self, row: AnySample, which: str) -> str:
        url: str = self.context["request"].build_absolute_uri(reverse("models:sample", args=[row.pk, which]))
        return url


class CountedForSerializer(serializers.Serializer[Any]):
    """The size of an image, in pixels."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()


class WeightsSerializer(serializers.Serializer[Weights]):
    """A converted model: facts, measured speeds and samples."""

    digest = serializers.CharField(help_text="SHA-256 of model.json.")
    family = serializers.CharField()
    task = serializers.CharField(help_text=f"{', '.join(_TASKS)} or {_LAST_TASK}.")
    title = serializers.SerializerMethodField(help_text="The recognized architecture.")
    classes = serializers.SerializerMethodField(help_text=f"The first {CLASSES_SHOWN} class names.")
    class_count = serializers.SerializerMethodField(help_text="Number of classes.")
    parameters = serializers.SerializerMethodField()
    flops = serializers.SerializerMethodField(
        help_text="Floating-point operations for one image of the size `flops_for`; null if not counted."
    )
    flops_for = serializers.SerializerMethodField(
        help_text="Image size of `flops`. Generators accept any size and are counted at "
        f"{_COUNTED_SIZE} pixels. Null: the size does not matter."
    )
    speeds = SpeedSerializer(many=True, help_text="Speeds in the trial, by device.")
    job_speeds = JobSpeedSerializer(
        many=True, help_text="Speeds in jobs of this model, by device. Jobs of pipelines are not counted."
    )
    samples = serializers.SerializerMethodField(
        help_text="Images chosen by the owner, else the sample images of the site."
    )

    @extend_schema_field(SampleSerializer(many=True))
    def get_samples(self, weights: Weights) -> Any:
        rows: Any = shown_samples(self.context["version"])
        return SampleSerializer(rows, many=True, context=self.context).data

    def get_title(self, weights: Weights) -> str:
        return str(weights.facts.get("title", ""))

    def get_classes(self, weights: Weights) -> list[str]:
        return list(weights.facts.get("classes") or [])[:CLASSES_SHOWN]

    def get_class_count(self, weights: Weights) -> int:
        return len(weights.facts.get("classes") or [])

    def get_parameters(self, weights: Weights) -> int:
        return int(weights.facts.get("parameters", 0))

    def get_flops(self, weights: Weights) -> int | None:
        count: int | None = weights.facts.get("flops")
        return count

    @extend_schema_field(CountedForSerializer(allow_null=True))
    def get_flops_for(self, weights: Weights) -> dict[str, int] | None:
        if not weights.facts.get("flops") or weights.facts.get("layout") == "noise":
            return None
        width, height = flops_size(weights.facts)
        return {"width": width, "height": height}
