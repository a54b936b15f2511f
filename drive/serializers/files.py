"""API serializers of files."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from drive.files.listing import SORTS
from drive.models import File, FileKind, FileState
from drive.serializers.drive import DriveQuery, FolderIdField, OptionalBooleanField
from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import StrictSerializer
from ipau.common.strict_json import UnreadableJSON, read_json

METADATA_MAX_BYTES = 16 * 1024


def file_url(request: Request, file_id: object) -> str:
    """Return the absolute URL of a file."""
    return request.build_absolute_uri(reverse("v1:file", args=[file_id]))


def content_url(request: Request, file_id: object) -> str:
    """Return the absolute URL of a file's content."""
    return request.build_absolute_uri(reverse("v1:file-content", args=[file_id]))


class ChecksumsSerializer(serializers.Serializer[Any]):
    """Hexadecimal digests of the content."""

    sha256 = serializers.CharField()


class FileUrlsSerializer(serializers.Serializer[Any]):
    """URLs of a file."""

    get = serializers.URLField(help_text="This file. Use it as `image` of a prediction.")
    content = serializers.URLField(help_text="Content of the file.")


class FileSerializer(serializers.Serializer[File]):
    """A file of the drive."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    content_type = serializers.CharField(help_text="Detected from the content.")
    size = serializers.IntegerField(help_text="Bytes.")
    etag = serializers.CharField(source="blob_id")
    checksums = serializers.SerializerMethodField()
    metadata = serializers.DictField(help_text="Metadata sent with the upload.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.SerializerMethodField(
        help_text="Always null: files stay until they are deleted."
    )
    urls = serializers.SerializerMethodField()
    folder = serializers.UUIDField(
        source="folder_id", allow_null=True, help_text="The folder's id; null at the top of the drive."
    )
    kind = ChoiceField(choices=FileKind.choices)
    state = ChoiceField(
        choices=FileState.choices,
        help_text="`uploaded` until a worker has checked the file, then `ready` or `refused`.",
    )
    reason = serializers.CharField(allow_blank=True, help_text="Why the file was refused.")
    width = serializers.IntegerField(allow_null=True, help_text="Pixels, after EXIF rotation.")
    height = serializers.IntegerField(allow_null=True, help_text="Pixels, after EXIF rotation.")
    facts = serializers.DictField(
        help_text="Known facts about a video (`duration` in seconds, `codec`, `fps`) or weights (`format`, "
        "`parameters`, `tensors`, `dtypes`); empty for images."
    )
    starred = serializers.BooleanField()
    trashed_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it was trashed; null if it is not in the trash. URLs of trashed items return 404.",
    )

    @extend_schema_field(ChecksumsSerializer)
    def get_checksums(self, file: File) -> dict[str, str]:
        return {"sha256": file.blob_id}

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_expires_at(self, file: File) -> None:
        return None

    @extend_schema_field(FileUrlsSerializer)
    def get_urls(self, file: File) -> dict[str, str]:
        request = self.context["request"]
        return {"get": file_url(request, file.pk), "content": content_url(request, file.pk)}


# Forms generated from the schema are prefilled with this example, so it must be harmless.
@extend_schema_field({"type": "string", "example": "{}"})
class Metadata(serializers.CharField):
    """JSON in a part of a form."""


class UploadSerializer(StrictSerializer):
    """A file to upload, with metadata."""

    content = serializers.FileField(
        allow_empty_file=True,
        help_text="The file: an image (JPEG, PNG, WebP, TIFF or AVIF, up to 50 megapixels), a video (MP4, "
        "WebM or MOV) or weights (PyTorch, ONNX or safetensors).",
    )
    metadata = Metadata(required=False, help_text="A JSON object, stored unchanged.")
    folder = FolderIdField(required=False, help_text="Destination folder; default: the top of the drive.")

    def validate_metadata(self, text: str) -> dict[str, Any]:
        if len(text.encode()) > METADATA_MAX_BYTES:
            raise exceptions.ValidationError(f"Metadata can have up to {METADATA_MAX_BYTES // 1024} KB.")
        try:
            value = read_json(text)
        except UnreadableJSON as error:
            raise exceptions.ValidationError(str(error)) from error
        if not isinstance(value, dict):
            raise exceptions.ValidationError("Send a JSON object.")
        return value


class FileQuery(DriveQuery):
    """Query parameters of the list of files."""

    folder = serializers.CharField(
        required=False, help_text="Only files of the folder with this id, or of the `top` of the drive."
    )
    kind = ChoiceField(required=False, choices=FileKind.values, help_text="Only files of this kind.")
    starred = OptionalBooleanField(
        required=False, help_text="Only files with a star (true) or without (false)."
    )
    order = ChoiceField(
        required=False,
        choices=list(SORTS),
        help_text="`newest` first (the default), by `name`, or by `size`, the largest first.",
    )


class FileChanges(StrictSerializer):
    """Changes of a file."""

    name = serializers.CharField(
        required=False, trim_whitespace=False, help_text="Up to 255 bytes, without a slash."
    )
    folder = FolderIdField(
        required=False,
        allow_null=True,
        help_text="Destination folder; `top` or null: the top of the drive.",
    )
    starred = serializers.BooleanField(required=False)
