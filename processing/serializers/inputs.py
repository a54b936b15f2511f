"""Serializers of API requests: predictions, jobs, previews and detection."""

import re
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import exceptions, serializers

from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import PageQuery, StrictSerializer
from ipau.common.errors import Invalid
from market.listings.io_schema import PICTURE
from processing.models import State
from processing.serializers.webhooks import WebhookInputSerializer

# A response lists at most this many wrong items.
MOST_PROBLEMS = 50
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MODEL = "The detector, as `owner/name`. Default: that of the site, or the only one that you can run."


class PredictionInputSerializer(WebhookInputSerializer):
    """The input image, and parameters of the app or model."""

    # Not strict: clients of hosted inference send further fields. Unknown parameters are rejected later.
    input = serializers.DictField(
        help_text="`image`: the `urls.get` of a file of yours, its id, or a data URI. All other "
        "fields are parameters. Missing parameters have their defaults."
    )

    def validate_input(self, values: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(values.get(PICTURE), str):
            message = "Set `image` to the URL or id of a file of yours, or to a data URI."
            raise Invalid(message, fields={PICTURE: message})
        return values


class VersionedInputSerializer(PredictionInputSerializer):
    """A prediction request with the version to run."""

    version = serializers.CharField(
        help_text="The id of a version, `owner/name` for the newest, or `owner/name:id`."
    )


class ItemInputSerializer(StrictSerializer):
    """An image with its own parameters."""

    file = serializers.UUIDField(help_text="The id of a file of yours.")
    input = serializers.DictField(required=False, help_text="Parameters that override those of the job.")


class PicturesField(serializers.ListField):
    """The images of a job. Their number is checked before their contents."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > settings.JOB_MAX_FILES:
            raise exceptions.ValidationError(f"A job can have at most {settings.JOB_MAX_FILES:,} images.")
        files: list[Any] = super().to_internal_value(data)
        return files


class ItemsField(PicturesField):
    """Items, validated without a serializer for each, which would be slow for a hundred thousand."""

    child = ItemInputSerializer()

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        items: list[Any] = []
        wrong: dict[Any, Any] = {}
        for number, item in enumerate(data):
            problem = _problem_of(item)
            if problem:
                wrong[number] = problem
                if len(wrong) >= MOST_PROBLEMS:
                    break
            else:
                items.append({**item, "file": UUID(item["file"])})
        if wrong:
            raise exceptions.ValidationError(wrong)
        return items


def _problem_of(item: Any) -> dict[str, list[str]]:
    """Return the errors of an item by field; empty if it is valid."""
    if not isinstance(item, dict):
        return {"non_field_errors": ["An item must be an object with a `file`."]}
    if unknown := item.keys() - {"file", "input"}:
        return {name: ["This field does not exist."] for name in sorted(unknown)}
    if not isinstance(item.get("file"), str) or not _UUID.fullmatch(item["file"]):
        return {"file": ["This must be the id of a file of yours."]}
    if not isinstance(item.get("input", {}), dict):
        return {"input": ["Parameters must be an object."]}
    return {}


class JobInputSerializer(WebhookInputSerializer, StrictSerializer):
    """An app or a model, its parameters, and the images to run it on."""

    model = serializers.CharField(required=False, help_text="`owner/name`, for its newest version.")
    version = serializers.CharField(required=False, help_text="The id of a version, or `owner/name:id`.")
    input = serializers.DictField(required=False, default=dict, help_text="Parameters.")
    files = PicturesField(child=serializers.UUIDField(), required=False, help_text="Ids of files of yours.")
    folder = serializers.UUIDField(
        required=False, help_text="A folder of yours: all images in it and in its subfolders."
    )
    items = ItemsField(
        required=False,
        help_text="Images with their own parameters. Without `files` and `folder`, the job runs on these "
        "images. With them, each image must be among those.",
    )
    output_folder = serializers.UUIDField(
        required=False, help_text="The folder for results. Default: a new folder named after the app."
    )
    output_format = ChoiceField(
        required=False,
        choices=["JPEG", "PNG", "WEBP", "TIFF"],
        help_text="Format of the result images. Default: chosen for each image.",
    )
    output_quality = serializers.IntegerField(
        required=False, min_value=1, max_value=100, help_text="Quality of JPEG and WebP results. Default: 90."
    )
    keep_folders = serializers.BooleanField(
        required=False, help_text="Keep the folder structure of the images."
    )
    reuse = serializers.BooleanField(
        required=False,
        help_text="Reuse earlier results of the same image, parameters and options. Default: true.",
    )
    deadline_at = serializers.DateTimeField(required=False, help_text="Unfinished images are canceled then.")
    max_price = serializers.IntegerField(
        required=False, min_value=0, help_text="In millicredits. A job that could cost more is rejected."
    )
    mail_when_done = serializers.BooleanField(
        required=False, help_text="Send an e-mail to the owner at the end."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("model" in attrs) == ("version" in attrs):
            raise exceptions.ValidationError({"model": "Send either `model` or `version`, not both."})
        if not attrs.get("files") and "folder" not in attrs and not attrs.get("items"):
            raise exceptions.ValidationError(
                {"files": "There are no images to run on. Send `files`, `items` or `folder`."}
            )
        return attrs


class AgainInputSerializer(StrictSerializer):
    """Changes to the parameters of the earlier job."""

    input = serializers.DictField(
        required=False, default=dict, help_text="Parameters to change. The others stay the same."
    )


class PreviewFormSerializer(serializers.Serializer[Any]):
    """An image or the id of a file, and parameters of the app as further fields."""

    image = serializers.FileField(required=False, help_text="The image.")
    file = serializers.CharField(required=False, help_text="The id of a file of yours, instead of `image`.")
    input = serializers.CharField(required=False, help_text="Parameters as a JSON object.")


class PreviewInputSerializer(serializers.Serializer[Any]):
    """A preview request as JSON."""

    image = serializers.CharField(help_text="A data URI, or the URL or id of a file of yours.")
    input = serializers.DictField(required=False, help_text="Parameters.")


class DetectFormSerializer(PreviewFormSerializer):
    """An image, the detector, and its parameters as further fields."""

    model = serializers.CharField(required=False, help_text=_MODEL)


class DetectInputSerializer(PreviewInputSerializer):
    """A preview request as JSON."""

    model = serializers.CharField(required=False, help_text=_MODEL)


class ItemQuery(PageQuery):
    """Filter of the list of items."""

    status = ChoiceField(required=False, choices=State.choices, help_text="Only items with this status.")
