"""The drive as a whole as the API tells and takes it: places in it, selections, how full it is."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from drive.files.quota import Usage
from ipau.common.api.views import PageQuery, StrictSerializer

# In a request, the place that is in no folder.
TOP = "top"
# Ids in one list; a form of the site carries about as many.
MOST_CHOSEN = 20_000


class YesOrNo(serializers.BooleanField):
    """Part of a query. What is not there asks nothing; in a form it would be a no."""

    default_empty_html = serializers.empty


@extend_schema_field({"type": "string", "example": TOP})
class FolderIdField(serializers.UUIDField):
    """A folder's id, or `top`."""

    def to_internal_value(self, data: Any) -> Any:
        return data if data == TOP else super().to_internal_value(data)


class DriveQuery(PageQuery):
    """What the lists of files and of folders take."""

    q = serializers.CharField(
        required=False,
        max_length=255,
        help_text="Only those with this in their names, whatever the capitals.",
    )
    trashed = serializers.BooleanField(
        required=False, default=False, help_text="What lies in the trash, not what does not."
    )


class DeletionQuery(serializers.Serializer[Any]):
    """How something is deleted."""

    permanently = serializers.BooleanField(
        required=False, default=False, help_text="For good, not into the trash."
    )


class SelectionSerializer(StrictSerializer):
    """Files and folders chosen together."""

    files = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        default=list,
        max_length=MOST_CHOSEN,
        help_text="Ids of files.",
    )
    folders = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        default=list,
        max_length=MOST_CHOSEN,
        help_text="Ids of folders, which stand for all that is in them.",
    )


class MoveSerializer(SelectionSerializer):
    """Files and folders, and where they shall go."""

    destination = FolderIdField(
        allow_null=True, help_text="A folder's id; `top` or null: the top of the drive."
    )


class CountSerializer(serializers.Serializer[Any]):
    """How many files and folders it was; a folder counts as one, whatever is in it."""

    count = serializers.IntegerField()


class DriveSerializer(serializers.Serializer[Usage]):
    """How full a drive is."""

    used = serializers.IntegerField(help_text="Bytes of all files, those in the trash included.")
    quota = serializers.IntegerField(help_text="Bytes that there may be.")
    left = serializers.IntegerField(help_text="Bytes that there is room for.")
    trash_days = serializers.SerializerMethodField(
        help_text="After so many days, what lies in the trash is deleted for good."
    )

    def get_trash_days(self, usage: Usage) -> int:
        return int(settings.TRASH_DAYS)
