"""What the API tells of the weights that a version runs."""

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
    """How long sample pictures took on one device when the model was tried, from bytes to bytes."""

    kind = serializers.ChoiceField(choices=DeviceKind.choices)
    device = serializers.CharField(help_text="Its name.")
    first_ms = serializers.FloatField(help_text="The first picture, with nothing of the model loaded.")
    each_ms = serializers.FloatField(allow_null=True, help_text="The median of later ones.")
    width = serializers.IntegerField(help_text="Of the pictures, in pixels.")
    height = serializers.IntegerField()


class JobSpeedSerializer(serializers.Serializer[JobSpeed]):
    """How long pictures of jobs took on one device: everybody's, of any size, that were computed there."""

    kind = serializers.ChoiceField(choices=DeviceKind.choices)
    device = serializers.CharField(help_text="Its name.")
    pictures = serializers.IntegerField(help_text="How many the means are over.")
    each_ms = serializers.FloatField(
        help_text="How long a slot was busy with one, from fetching to storing. A GPU's slot has several "
        "under way at once."
    )
    run_ms = serializers.FloatField(
        source="each_run_ms",
        help_text="How long one spent in the model's step; on a GPU with others beside it, so this may be "
        "more than `each_ms`.",
    )


class SampleSerializer(serializers.Serializer[AnySample]):
    """A sample picture, and what the model made of it."""

    before = serializers.SerializerMethodField(help_text="A WebP; null for models that draw from noise.")
    after = serializers.SerializerMethodField(help_text="A WebP; null for classifiers.")
    found = serializers.JSONField(
        source="seen", help_text="Classes that were found: `name`, and `count` or `confidence`."
    )

    def get_before(self, row: AnySample) -> str | None:
        return self._url(row, "before") if row.before_id else None

    def get_after(self, row: AnySample) -> str | None:
        return self._url(row, "after") if row.after_id else None

    def _url(self, row: AnySample, which: str) -> str:
        found: str = self.context["request"].build_absolute_uri(
            reverse("models:sample", args=[row.pk, which])
        )
        return found


class CountedForSerializer(serializers.Serializer[Any]):
    """The size of a picture, in pixels."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()


class WeightsSerializer(serializers.Serializer[Weights]):
    """A converted model: its facts, how fast it is here, and what it makes of sample pictures."""

    digest = serializers.CharField(help_text="SHA-256 of its model.json.")
    family = serializers.CharField()
    task = serializers.CharField(help_text=f"{', '.join(_TASKS)} or {_LAST_TASK}.")
    title = serializers.SerializerMethodField(help_text="What it was recognised as.")
    classes = serializers.SerializerMethodField(help_text=f"The first {CLASSES_SHOWN} of them.")
    class_count = serializers.SerializerMethodField(help_text="How many classes it knows.")
    parameters = serializers.SerializerMethodField()
    flops = serializers.SerializerMethodField(
        help_text="Operations for one picture of the size `flops_for`; null where they were not counted."
    )
    flops_for = serializers.SerializerMethodField(
        help_text=f"Generators take any size: theirs are counted for {_COUNTED_SIZE} pixels. "
        "Null: the size does not matter."
    )
    speeds = SpeedSerializer(many=True, help_text="When it was tried.")
    job_speeds = JobSpeedSerializer(many=True, help_text="In jobs of this model alone, not of pipelines.")
    samples = serializers.SerializerMethodField(
        help_text="Pictures of its owner's choosing, else those that every model is tried on."
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
