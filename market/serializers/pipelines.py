"""Pipelines as the API takes and tells them."""

from typing import Any

from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import StrictSerializer
from market.listings import names
from market.listings.io_schema import STEPS
from market.models import Listing, Version, Visibility
from market.pipelines.model_steps import models_of
from workers.recipe import MOST_STEPS, name_steps

_TITLE: dict[str, Any] = {"max_length": names.TITLE_LENGTH, "help_text": "What people read."}
_SUMMARY: dict[str, Any] = {
    "max_length": names.SUMMARY_LENGTH,
    "allow_blank": True,
    "help_text": "One sentence.",
}
_STEPS: dict[str, Any] = {
    "many": True,
    "help_text": f"1 to {MOST_STEPS} steps, each run on the picture that the one before it made.",
}
_VISIBILITY: dict[str, Any] = {
    "choices": Visibility.choices,
    "help_text": "`public`: everybody finds and runs it, at once. It must then name no folder of yours.",
}


class PipelineStepInputSerializer(StrictSerializer):
    """One step: an app by `operation`, or a model by `model`."""

    operation = serializers.CharField(
        required=False, max_length=64, help_text="The name of a built-in app: `pixelart`."
    )
    model = serializers.RegexField(
        r"^[^/@\s]{1,60}/[^/@\s]{1,60}$",
        required=False,
        allow_null=True,
        help_text="The address `owner/name` of a model that you may run.",
        error_messages={"invalid": _("Write a model's address as owner/name.")},
    )
    version = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=999_999,
        help_text="Which version of the model; the newest without it. It stays with that one.",
    )
    params = serializers.DictField(
        required=False, help_text="Its parameters; what is missing takes the app's default."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("model") and not attrs.get("operation"):
            raise serializers.ValidationError(_("Name an app as “operation”, or a model as “model”."))
        if not attrs.get("model") and attrs.get("version") is not None:
            raise serializers.ValidationError({"version": _("Only models are chosen by version.")})
        return attrs


class PipelineInputSerializer(StrictSerializer):
    """A new pipeline."""

    title = serializers.CharField(**_TITLE)
    steps = PipelineStepInputSerializer(**_STEPS)
    summary = serializers.CharField(required=False, **_SUMMARY)
    name = serializers.CharField(
        required=False,
        max_length=names.NAME_LENGTH,
        help_text="The second part of its address; without one it is made from the title.",
    )
    visibility = ChoiceField(required=False, **_VISIBILITY)


class PipelineChangeSerializer(StrictSerializer):
    """What changes; the rest stays."""

    title = serializers.CharField(required=False, **_TITLE)
    steps = PipelineStepInputSerializer(required=False, **_STEPS)
    summary = serializers.CharField(required=False, **_SUMMARY)
    name = serializers.CharField(
        required=False,
        max_length=names.NAME_LENGTH,
        help_text="Another address; the old one leads nowhere then.",
    )
    visibility = ChoiceField(required=False, **_VISIBILITY)


class PipelineStepSerializer(serializers.Serializer[Any]):
    """One step."""

    name = serializers.CharField(
        help_text="What its parameters' names begin with: `pixelart2` makes `pixelart2.block`."
    )
    operation = serializers.CharField(help_text="The app, or the family that runs the model.")
    title = serializers.CharField()
    model = serializers.CharField(
        allow_null=True, help_text="The address of the model; null for apps, and for models that are gone."
    )
    version = serializers.IntegerField(allow_null=True, help_text="Which version of the model.")
    available = serializers.BooleanField(
        help_text="False for a model that is gone or that you may not run: then the pipeline does not run."
    )
    params = serializers.DictField(help_text="The pipeline's own values, all of them.")


class PipelineVersionSerializer(serializers.Serializer[Version]):
    """The newest version."""

    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Counts up from 1 whenever the steps change.")
    created_at = serializers.DateTimeField()


class PipelineSerializer(serializers.Serializer[Listing]):
    """Apps and models in a row, run as one under the address `owner/name`."""

    url = serializers.SerializerMethodField(help_text="Its page.")
    owner = serializers.CharField(source="owner.handle")
    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField(allow_blank=True)
    visibility = ChoiceField(choices=Visibility.choices)
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
        version, user = _newest(listing), self.context["request"].user
        steps = version.recipe["steps"]
        names = name_steps(step["operation"] for step in steps)
        models = models_of(version)
        return [
            {
                "name": name,
                "operation": step["operation"],
                "title": version.params_schema[STEPS][position]["title"],
                **_told_model(user, models.get(position)),
                "params": step["params"],
            }
            for position, (name, step) in enumerate(zip(names, steps, strict=True))
        ]


def _told_model(user: Any, model: Version | None) -> dict[str, Any]:
    """Return where a step's model is; of one that `user` may not see, nothing."""
    if model is None:
        return {"model": None, "version": None, "available": True}
    if not model.listing.is_visible_to(user):
        return {"model": None, "version": None, "available": False}
    address = f"{model.listing.owner.handle}/{model.listing.name}"
    return {"model": address, "version": model.number, "available": True}


def _newest(listing: Listing) -> Version:
    # The view has fetched it with the row.
    newest: Version = listing.versions.all()[0]
    return newest
