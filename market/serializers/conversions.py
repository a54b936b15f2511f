"""Conversions as the API takes and tells them."""

from typing import Any

from django.urls import reverse
from rest_framework import serializers

from ipau.common.api.views import StrictSerializer
from market.listings.names import NAME_LENGTH, TITLE_LENGTH
from market.models import Conversion, ConversionState
from market.weights import conversions


class ModelInputSerializer(StrictSerializer):
    """A model to be made of weights: the bytes themselves, or a file of the drive."""

    weights = serializers.FileField(
        required=False, help_text="The file itself, where the request is a form. It goes into your drive."
    )
    file = serializers.UUIDField(required=False, help_text="Or the id of a file of yours that holds weights.")
    name = serializers.CharField(
        max_length=NAME_LENGTH,
        help_text="The second part of its address. That of a model of yours makes another version of it.",
    )
    title = serializers.CharField(
        required=False, allow_blank=True, max_length=TITLE_LENGTH, help_text="What people read."
    )
    family = serializers.CharField(
        required=False, allow_blank=True, help_text="Who shall read them; without it, each is asked."
    )
    config = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=conversions.CONFIG_MAX_CHARACTERS,
        help_text="The text of the `config.json` that belongs to the weights.",
    )
    publish = serializers.BooleanField(
        required=False, default=False, help_text="Whether everybody shall find and run it."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("weights" in attrs) == ("file" in attrs):
            text = "Send the weights either as `weights` or as `file`."
            raise serializers.ValidationError({"weights": [text]})
        return attrs


class ConfirmationSerializer(StrictSerializer):
    """Which of a report's choices is right; both left out, the first."""

    task = serializers.CharField(required=False, max_length=20)
    layout = serializers.CharField(required=False, allow_blank=True, max_length=64)


class ConversionSerializer(serializers.Serializer[Conversion]):
    """Weights on their way to a model."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=ConversionState.choices, source="state")
    model = serializers.SerializerMethodField(help_text="`owner/name`; there once it has succeeded.")
    version = serializers.UUIDField(
        source="version_id", allow_null=True, help_text="What was made; null before."
    )
    source_name = serializers.CharField(help_text="The name of the file.")
    source_sha256 = serializers.CharField()
    file = serializers.UUIDField(source="file_id", allow_null=True, help_text="Null when it is gone.")
    error = serializers.SerializerMethodField(help_text="Why the weights were refused; null else.")
    awaits_confirmation = serializers.BooleanField(
        source="awaits_word",
        help_text="Whether you are asked how its outputs are read: see `choices` of the report. Until then "
        "nobody else runs it.",
    )
    report = serializers.DictField(
        help_text="What was found: family, facts, checks, how isolated the work was; empty before the end."
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
        places = {"get": "v1:conversion", "web": "models:conversion"}
        return {
            name: request.build_absolute_uri(reverse(place, args=[conversion.pk]))
            for name, place in places.items()
        }
