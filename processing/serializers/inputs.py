"""What comes in over the API: predictions, jobs and previews as programs ask for them."""

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

# An answer names so many wrong items, not all of a hundred thousand.
MOST_PROBLEMS = 50
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MODEL = "The detector, as `owner/name`. Without it: the site's own, or the only one that you may run."


class PredictionInputSerializer(WebhookInputSerializer):
    """What to run on, and the parameters of the app or model."""

    # Clients of hosted inference send more than we know; what would change the outcome is refused by name.
    input = serializers.DictField(
        help_text="`image` names the picture: the `urls.get` of a file of yours, its id, or a data URI. All "
        "else are parameters; those left out take their defaults."
    )

    def validate_input(self, given: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(given.get(PICTURE), str):
            message = "Name the picture to run on: the address or id of a file of yours, or a data URI."
            raise Invalid(message, fields={PICTURE: message})
        return given


class VersionedInputSerializer(PredictionInputSerializer):
    """As above, with the version to run."""

    version = serializers.CharField(
        help_text="A version's id, `owner/name` for the newest, or `owner/name:id`."
    )


class ItemInputSerializer(StrictSerializer):
    """A picture with parameters of its own."""

    file = serializers.UUIDField(help_text="The id of a file of yours.")
    input = serializers.DictField(required=False, help_text="They win over those of the job.")


class PicturesField(serializers.ListField):
    """The pictures of a job, counted before any of them is looked at."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > settings.JOB_MAX_FILES:
            raise exceptions.ValidationError(f"A job takes {settings.JOB_MAX_FILES:,} pictures at most.")
        found: list[Any] = super().to_internal_value(data)
        return found


class ItemsField(PicturesField):
    """Items, read without a serializer for each: that would take most of the time of a hundred thousand."""

    child = ItemInputSerializer()

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        found: list[Any] = []
        wrong: dict[Any, Any] = {}
        for number, item in enumerate(data):
            problem = _problem_of(item)
            if problem:
                wrong[number] = problem
                if len(wrong) >= MOST_PROBLEMS:
                    break
            else:
                found.append({**item, "file": UUID(item["file"])})
        if wrong:
            raise exceptions.ValidationError(wrong)
        return found


def _problem_of(item: Any) -> dict[str, list[str]]:
    """Return what is wrong with an item, by field; nothing where it is right."""
    if not isinstance(item, dict):
        return {"non_field_errors": ["An item is an object that names a `file`."]}
    if unknown := item.keys() - {"file", "input"}:
        return {name: ["There is no such field."] for name in sorted(unknown)}
    if not isinstance(item.get("file"), str) or not _UUID.fullmatch(item["file"]):
        return {"file": ["Name a file of yours by its id."]}
    if not isinstance(item.get("input", {}), dict):
        return {"input": ["Parameters are an object."]}
    return {}


class JobInputSerializer(WebhookInputSerializer, StrictSerializer):
    """An app or a model, its parameters, and the pictures to run it on."""

    model = serializers.CharField(required=False, help_text="`owner/name`, for its newest version.")
    version = serializers.CharField(required=False, help_text="A version's id, or `owner/name:id`.")
    input = serializers.DictField(required=False, default=dict, help_text="Parameters.")
    files = PicturesField(child=serializers.UUIDField(), required=False, help_text="Ids of files of yours.")
    folder = serializers.UUIDField(
        required=False, help_text="A folder of yours: all pictures in it and in its folders."
    )
    items = ItemsField(
        required=False,
        help_text="Pictures with parameters of their own. Alone they are what the job runs on; beside "
        "`files` or `folder` they must be among those.",
    )
    output_folder = serializers.UUIDField(
        required=False, help_text="Where results go; without one, into a new folder named after the app."
    )
    output_format = ChoiceField(
        required=False,
        choices=["JPEG", "PNG", "WEBP", "TIFF"],
        help_text="Of the pictures that come out; without one, as fits each.",
    )
    output_quality = serializers.IntegerField(
        required=False, min_value=1, max_value=100, help_text="Of JPEG and WebP; 90 without."
    )
    keep_folders = serializers.BooleanField(
        required=False, help_text="Put results into folders as their pictures lie in."
    )
    reuse = serializers.BooleanField(
        required=False,
        help_text="Take results that you have of the same picture, parameters and options. True without.",
    )
    deadline_at = serializers.DateTimeField(required=False, help_text="What is not done by then is canceled.")
    max_price = serializers.IntegerField(
        required=False, min_value=0, help_text="In millicredits. A job that could cost more is refused."
    )
    mail_when_done = serializers.BooleanField(required=False, help_text="Send its owner a mail when it ends.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("model" in attrs) == ("version" in attrs):
            raise exceptions.ValidationError({"model": "Name either a model or a version."})
        if not attrs.get("files") and "folder" not in attrs and not attrs.get("items"):
            raise exceptions.ValidationError(
                {"files": "There is no picture to run on: name files, items or a folder."}
            )
        return attrs


class AgainInputSerializer(StrictSerializer):
    """What is different this time."""

    input = serializers.DictField(
        required=False, default=dict, help_text="Parameters that differ; the others stay as they were."
    )


class PreviewFormSerializer(serializers.Serializer[Any]):
    """A picture, or a file's id, and an app's parameters as further fields."""

    image = serializers.FileField(required=False, help_text="The picture.")
    file = serializers.CharField(required=False, help_text="Or the id of a file of yours.")
    input = serializers.CharField(required=False, help_text="Parameters as a JSON object.")


class PreviewInputSerializer(serializers.Serializer[Any]):
    """The same as JSON."""

    image = serializers.CharField(help_text="A data URI, or the address or id of a file of yours.")
    input = serializers.DictField(required=False, help_text="Parameters.")


class DetectFormSerializer(PreviewFormSerializer):
    """A picture, which detector shall look at it, and its parameters as further fields."""

    model = serializers.CharField(required=False, help_text=_MODEL)


class DetectInputSerializer(PreviewInputSerializer):
    """The same as JSON."""

    model = serializers.CharField(required=False, help_text=_MODEL)


class ItemQuery(PageQuery):
    """Which items to list."""

    status = ChoiceField(required=False, choices=State.choices, help_text="Only these.")
