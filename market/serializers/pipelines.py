"""Serializers of pipelines."""

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

_TITLE: dict[str, Any] = {"max_length": names.TITLE_LENGTH, "help_text": "The title shown on pages."}
_SUMMARY: dict[str, Any] = {
    "max_length": names.SUMMARY_LENGTH,
    "allow_blank": True,
    "help_text": "One sentence.",
}
_STEPS: dict[str, Any] = {
    "many": True,
    "help_text": f"1 to {MOST_STEPS} steps. Each runs on the image that the previous step returns.",
}
_VISIBILITY: dict[str, Any] = {
    "choices": Visibility.choices,
    "help_text": "`public`: everyone can find and run it. It cannot use folders of your drive then.",
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
        help_text="Version of the model. Default: the newest. The step keeps this version.",
    )
    params = serializers.DictField(
        required=False, help_text="Parameters. Missing ones use the default of the app."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("model") and not attrs.get("operation"):
            raise serializers.ValidationError(_("Name an app as “operation”, or a model as “model”."))
        if not attrs.get("model") and attrs.get("version") is not None:
            raise serializers.ValidationError({"version": _("Only a model step can have a version.")})
        return attrs


class PipelineInputSerializer(StrictSerializer):
    """A new pipeline."""

    title = serializers.CharField(**_TITLE)
    steps = PipelineStepInputSerializer(**_STEPS)
    summary = serializers.CharField(required=False, **_SUMMARY)
    name = serializers.CharField(
        required=False,
        max_length=names.NAME_LENGTH,
        help_text="The second part of its address. Default: derived from the title.",
    )
    visibility = ChoiceField(required=False, **_VISIBILITY)


class PipelineChangeSerializer(StrictSerializer):
    """Changes of a pipeline. Missing fields stay as they are."""

    title = serializers.CharField(required=False, **_TITLE)
    steps = PipelineStepInputSerializer(required=False, **_STEPS)
    summary = serializers.CharField(required=False, **_SUMMARY)
    name = serializers.CharField(
        required=False,
        max_length=names.NAME_LENGTH,
        help_text="A new name. The old address stops working.",
    )
    visibility = ChoiceField(required=False, **_VISIBILITY)


class PipelineStepSerializer(serializers.Serializer[Any]):
    """A step of a pipeline."""

    name = serializers.CharField(
        help_text="Prefix of its parameter names: `pixelart2` makes `pixelart2.block`."
    )
    operation = serializers.CharField(help_text="The app, or the family that runs the model.")
    title = serializers.CharField()
    model = serializers.CharField(
        allow_null=True, help_text="The address of the model; null for apps and for deleted models."
    )
    version = serializers.IntegerField(allow_null=True, help_text="Version of the model.")
    available = serializers.BooleanField(
        help_text="False if the model is deleted or you may not run it. Then the pipeline cannot run."
    )
    params = serializers.DictField(help_text="All parameters, with the values of the pipeline.")


class PipelineVersionSerializer(serializers.Serializer[Version]):
    """The newest version."""

    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Counts up from 1 whenever the steps change.")
    created_at = serializers.DateTimeField()


class PipelineSerializer(serializers.Serializer[Listing]):
    """Apps and models that run one after another, under the address `owner/name`."""

    url = serializers.SerializerMethodField(help_text="Its page.")
    owner = serializers.CharField(source="owner.handle")
    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField(allow_blank=True)
    visibility = ChoiceField(choices=Visibility.choices)
    taken_down = serializers.BooleanField(
        help_text="An operator has hidden it from everyone except its owner."
    )
    run_count = serializers.IntegerField(help_text="Number of images it was run on.")
    version = serializers.SerializerMethodField()
    steps = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_url(self, listing: Listing) -> str:
        # By URL name only: the page belongs to the app `processing`, which market must not import.
        path = reverse("processing:app", args=[listing.owner.handle, listing.name])
        url: str = self.context["request"].build_absolute_uri(path)
        return url

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
                **_model_reference(user, models.get(position)),
                "params": step["params"],
            }
            for position, (name, step) in enumerate(zip(names, steps, strict=True))
        ]


def _model_reference(user: Any, model: Version | None) -> dict[str, Any]:
    """Return the address and version of a step's model; nulls if `user` may not see it."""
    if model is None:
        return {"model": None, "version": None, "available": True}
    if not model.listing.is_visible_to(user):
        return {"model": None, "version": None, "available": False}
    address = f"{model.listing.owner.handle}/{model.listing.name}"
    return {"model": address, "version": model.number, "available": True}


def _newest(listing: Listing) -> Version:
    # The view has prefetched it.
    newest: Version = listing.versions.all()[0]
    return newest
