"""Serializers of conversions."""

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from ipau.common.api.views import StrictSerializer
from market.listings.names import NAME_LENGTH, TITLE_LENGTH
from market.models import Conversion, ConversionState
from market.weights import conversions


class ModelInputSerializer(StrictSerializer):
    """Weights to convert into a model: an uploaded file, or a file of the drive."""

    weights = serializers.FileField(
        required=False, help_text="The file itself, if the request is multipart. It is stored in your drive."
    )
    file = serializers.UUIDField(required=False, help_text="Or the id of a weights file in your drive.")
    name = serializers.CharField(
        max_length=NAME_LENGTH,
        help_text="The second part of its address. The name of an existing model of yours adds a version.",
    )
    title = serializers.CharField(
        required=False, allow_blank=True, max_length=TITLE_LENGTH, help_text="The title shown on pages."
    )
    family = serializers.CharField(
        required=False, allow_blank=True, help_text="Family that converts the weights. Default: detected."
    )
    config = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=conversions.CONFIG_MAX_CHARACTERS,
        help_text="The text of the `config.json` that belongs to the weights.",
    )
    publish = serializers.BooleanField(
        required=False, default=False, help_text="Whether to share the model with everyone."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("weights" in attrs) == ("file" in attrs):
            text = "Send the weights either as `weights` or as `file`."
            raise serializers.ValidationError({"weights": [text]})
        return attrs


class ConfirmationSerializer(StrictSerializer):
    """The correct choice of the report's `choices`. Without both fields: the first."""

    task = serializers.CharField(required=False, max_length=20)
    layout = serializers.CharField(required=False, allow_blank=True, max_length=64)


class ConversionSerializer(serializers.Serializer[Conversion]):
    """Conversion of uploaded weights into a model."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=ConversionState.choices, source="state")
    model = serializers.SerializerMethodField(
        help_text="`owner/name`. The model exists once the conversion has succeeded."
    )
    version = serializers.UUIDField(
        source="version_id",
        allow_null=True,
        help_text="Id of the new version; null until the conversion succeeds.",
    )
    source_name = serializers.CharField(help_text="Name of the file.")
    source_sha256 = serializers.CharField()
    file = serializers.UUIDField(source="file_id", allow_null=True, help_text="Null if the file was deleted.")
    error = serializers.SerializerMethodField(help_text="Why the weights were refused; otherwise null.")
    awaits_confirmation = serializers.BooleanField(
        source="needs_confirmation",
        help_text="Whether you have to confirm the output layout: see `choices` of the report. Until you do, "
        "only you can run it.",
    )
    report = serializers.DictField(
        help_text="Family, facts, checks and isolation of the conversion; empty until it ends."
    )
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    urls = serializers.SerializerMethodField(help_text="`get`: this conversion; `web`: its page.")

    def get_model(self, conversion: Conversion) -> str:
        return f"{conversion.owner.handle}/{conversion.name}"

    def get_error(self, conversion: Conversion) -> str | None:
        if conversion.state != ConversionState.FAILED:
            return None
        return str(conversion.report.get("sentence", ""))

    def get_urls(self, conversion: Conversion) -> dict[str, str]:
        request = self.context["request"]
        routes = {"get": "v1:conversion", "web": "models:conversion"}
        return {
            name: request.build_absolute_uri(reverse(route, args=[conversion.pk]))
            for name, route in routes.items()
        }
