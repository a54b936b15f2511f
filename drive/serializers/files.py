"""Files as the API tells and takes them."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from drive.files.listing import SORTS
from drive.models import File, FileKind, FileState
from drive.serializers.drive import DriveQuery, FolderIdField, YesOrNo
from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import StrictSerializer
from ipau.common.strict_json import UnreadableJSON, read_json

METADATA_MAX_BYTES = 16 * 1024


def file_url(request: Request, file_id: object) -> str:
    """Return the absolute address of a file's description."""
    return request.build_absolute_uri(reverse("v1:file", args=[file_id]))


def content_url(request: Request, file_id: object) -> str:
    """Return the absolute address of a file's bytes."""
    return request.build_absolute_uri(reverse("v1:file-content", args=[file_id]))


class ChecksumsSerializer(serializers.Serializer[Any]):
    """Digests of the bytes, in hexadecimal."""

    sha256 = serializers.CharField()


class FileUrlsSerializer(serializers.Serializer[Any]):
    """Where a file is found."""

    get = serializers.URLField(help_text="This description. Give it as a prediction's `image`.")
    content = serializers.URLField(help_text="The bytes themselves.")


class FileSerializer(serializers.Serializer[File]):
    """A file of the drive."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    content_type = serializers.CharField(help_text="As found in the bytes, whatever the sender said.")
    size = serializers.IntegerField(help_text="Bytes.")
    etag = serializers.CharField(source="blob_id")
    checksums = serializers.SerializerMethodField()
    metadata = serializers.DictField(help_text="What was sent along with the upload.")
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
        help_text="`uploaded` until a worker has looked at all pixels, then `ready` or `refused`.",
    )
    reason = serializers.CharField(allow_blank=True, help_text="Why the file was refused.")
    width = serializers.IntegerField(allow_null=True, help_text="Pixels, upright.")
    height = serializers.IntegerField(allow_null=True, help_text="Pixels, upright.")
    facts = serializers.DictField(
        help_text="What a video (`duration` in seconds, `codec`, `fps`) or weights (`format`, `parameters`, "
        "`tensors`, `dtypes`) say of themselves, as far as they do; empty for pictures."
    )
    starred = serializers.BooleanField()
    trashed_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Since when it lies in the trash, where all its addresses answer 404; null: it does not.",
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


# Forms made of the description begin with this example, so it must do no harm.
@extend_schema_field({"type": "string", "example": "{}"})
class Metadata(serializers.CharField):
    """JSON in a form's part."""


class UploadSerializer(StrictSerializer):
    """A file and what shall be kept with it."""

    content = serializers.FileField(
        allow_empty_file=True,
        help_text="The file: a picture (JPEG, PNG, WebP, TIFF or AVIF, up to 50 megapixels), a video (MP4, "
        "WebM or MOV) or weights (PyTorch, ONNX or safetensors).",
    )
    metadata = Metadata(required=False, help_text="A JSON object, kept as it is.")
    folder = FolderIdField(
        required=False, help_text="The folder to put it into; without one, the top of the drive."
    )

    def validate_metadata(self, text: str) -> dict[str, Any]:
        if len(text.encode()) > METADATA_MAX_BYTES:
            raise exceptions.ValidationError(f"At most {METADATA_MAX_BYTES // 1024} KB are kept.")
        try:
            value = read_json(text)
        except UnreadableJSON as error:
            raise exceptions.ValidationError(str(error)) from error
        if not isinstance(value, dict):
            raise exceptions.ValidationError("Send a JSON object.")
        return value


class FileQuery(DriveQuery):
    """Which files to list."""

    folder = serializers.CharField(
        required=False, help_text="Only files of the folder with this id, or of the `top` of the drive."
    )
    kind = ChoiceField(required=False, choices=FileKind.values, help_text="Only files of this kind.")
    starred = YesOrNo(required=False, help_text="Only files with a star, or only those without.")
    order = ChoiceField(
        required=False,
        choices=list(SORTS),
        help_text="`newest` first (the default), by `name`, or by `size`, the largest first.",
    )


class FileChanges(StrictSerializer):
    """What shall change about a file."""

    name = serializers.CharField(
        required=False, trim_whitespace=False, help_text="Up to 255 bytes, without a slash."
    )
    folder = FolderIdField(
        required=False,
        allow_null=True,
        help_text="The folder to move it to; `top` or null: the top of the drive.",
    )
    starred = serializers.BooleanField(required=False)
