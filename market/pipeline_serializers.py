"""Pipelines as the API takes and tells them."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ipau.common.api import StrictSerializer
from market import pipelines
from market.models import Listing, Version, Visibility
from market.steps import title_of
from workers.chain import name_steps
from workers.recipe import MOST_STEPS

# --- What comes in --------------------------------------------------------------------------------


class PipelineStepInputSerializer(StrictSerializer):
    """One step."""

    operation = serializers.CharField(max_length=64, help_text="The name of a built-in app: `pixelart`.")
    params = serializers.DictField(
        required=False, help_text="Its parameters; what is missing takes the app's default."
    )


_TITLE = {"max_length": pipelines.TITLE_LENGTH, "help_text": "What people read."}
_SUMMARY = {"max_length": pipelines.SUMMARY_LENGTH, "allow_blank": True, "help_text": "One sentence."}
_STEPS = {
    "many": True,
    "help_text": f"1 to {MOST_STEPS} steps, each run on the picture that the one before it made.",
}
_VISIBILITY = {
    "choices": Visibility.choices,
    "help_text": "`public`: everybody finds and runs it, at once. It must then name no folder of yours.",
}


class PipelineInputSerializer(StrictSerializer):
    """A new pipeline."""

    title = serializers.CharField(**_TITLE)  # type: ignore[arg-type]  # keywords, as named above
    steps = PipelineStepInputSerializer(**_STEPS)  # type: ignore[arg-type]
    summary = serializers.CharField(required=False, **_SUMMARY)  # type: ignore[arg-type]
    name = serializers.CharField(
        required=False,
        max_length=pipelines.NAME_LENGTH,
        help_text="The second part of its address; without one it is made from the title.",
    )
    visibility = serializers.ChoiceField(required=False, **_VISIBILITY)  # type: ignore[arg-type]


class PipelineChangeSerializer(StrictSerializer):
    """What changes; the rest stays."""

    title = serializers.CharField(required=False, **_TITLE)  # type: ignore[arg-type]
    steps = PipelineStepInputSerializer(required=False, **_STEPS)  # type: ignore[arg-type]
    summary = serializers.CharField(required=False, **_SUMMARY)  # type: ignore[arg-type]
    name = serializers.CharField(
        required=False,
        max_length=pipelines.NAME_LENGTH,
        help_text="Another address; the old one leads nowhere then.",
    )
    visibility = serializers.ChoiceField(required=False, **_VISIBILITY)  # type: ignore[arg-type]


# --- What goes out --------------------------------------------------------------------------------


class PipelineStepSerializer(serializers.Serializer[Any]):
    """One step."""

    name = serializers.CharField(
        help_text="What its parameters' names begin with: `pixelart2` makes `pixelart2.block`."
    )
    operation = serializers.CharField()
    title = serializers.CharField()
    params = serializers.DictField(help_text="The pipeline's own values, all of them.")


class PipelineVersionSerializer(serializers.Serializer[Version]):
    """The newest version."""

    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Counts up from 1 whenever the steps change.")
    created_at = serializers.DateTimeField()


class PipelineSerializer(serializers.Serializer[Listing]):
    """Apps in a row, run as one under the address `owner/name`."""

    url = serializers.SerializerMethodField(help_text="Its page.")
    owner = serializers.CharField(source="owner.handle")
    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField(allow_blank=True)
    visibility = serializers.ChoiceField(choices=Visibility.choices)
    taken_down = serializers.BooleanField(help_text="An operator has hidden it from all but its owner.")
    run_count = serializers.IntegerField(help_text="How many pictures it was run on.")
    version = serializers.SerializerMethodField()
    steps = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_url(self, listing: Listing) -> str:
        # By its name only: the page itself is a room further up.
        path = reverse("processing:app", args=[listing.owner.handle, listing.name])
        found: str = self.context["request"].build_absolute_uri(path)
        return found

    @extend_schema_field(PipelineVersionSerializer)
    def get_version(self, listing: Listing) -> dict[str, Any]:
        return dict(PipelineVersionSerializer(_newest(listing)).data)

    @extend_schema_field(PipelineStepSerializer(many=True))
    def get_steps(self, listing: Listing) -> list[dict[str, Any]]:
        steps = _newest(listing).recipe["steps"]
        names = name_steps(step["operation"] for step in steps)
        return [
            {
                "name": name,
                "operation": step["operation"],
                "title": title_of(step["operation"]),
                "params": step["params"],
            }
            for name, step in zip(names, steps, strict=True)
        ]


def _newest(listing: Listing) -> Version:
    # The view has fetched it with the row.
    newest: Version = listing.versions.all()[0]
    return newest
