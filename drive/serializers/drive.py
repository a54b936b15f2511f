"""API serializers of the drive: folder ids, selections, moves, usage."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from drive.files.quota import Usage
from ipau.common.api.views import PageQuery, StrictSerializer

# In requests: the top of the drive.
TOP = "top"
# Ids in one list, about as many as in a form of the site.
MOST_CHOSEN = 20_000


class OptionalBooleanField(serializers.BooleanField):
    """Boolean query parameter without a default. A plain BooleanField treats a missing value as false."""

    default_empty_html = serializers.empty


@extend_schema_field({"type": "string", "example": TOP})
class FolderIdField(serializers.UUIDField):
    """A folder's id, or `top`."""

    def to_internal_value(self, data: Any) -> Any:
        return data if data == TOP else super().to_internal_value(data)


class DriveQuery(PageQuery):
    """Query parameters of the lists of files and folders."""

    q = serializers.CharField(
        required=False,
        max_length=255,
        help_text="Only names that contain this text, ignoring case.",
    )
    trashed = serializers.BooleanField(
        required=False, default=False, help_text="Only items in the trash, instead of those outside."
    )


class DeletionQuery(serializers.Serializer[Any]):
    """Query parameters of deletions."""

    permanently = serializers.BooleanField(
        required=False, default=False, help_text="Delete permanently, instead of moving to the trash."
    )


class SelectionSerializer(StrictSerializer):
    """Selected files and folders."""

    files = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        default=list,
        max_length=MOST_CHOSEN,
        help_text="File ids.",
    )
    folders = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        default=list,
        max_length=MOST_CHOSEN,
        help_text="Folder ids, including their contents.",
    )


class MoveSerializer(SelectionSerializer):
    """Selected files and folders, and their destination."""

    destination = FolderIdField(
        allow_null=True, help_text="A folder's id; `top` or null: the top of the drive."
    )


class CountSerializer(serializers.Serializer[Any]):
    """Number of files and folders. A folder counts as one, with its contents."""

    count = serializers.IntegerField()


class DriveSerializer(serializers.Serializer[Usage]):
    """Usage of a drive."""

    used = serializers.IntegerField(help_text="Bytes of all files, including those in the trash.")
    quota = serializers.IntegerField(help_text="Allowed bytes.")
    left = serializers.IntegerField(help_text="Free bytes.")
    trash_days = serializers.SerializerMethodField(
        help_text="Days until items in the trash are permanently deleted."
    )

    def get_trash_days(self, usage: Usage) -> int:
        return int(settings.TRASH_DAYS)
