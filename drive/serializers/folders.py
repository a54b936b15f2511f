"""API serializers of folders."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from drive.files import services
from drive.models import Folder
from drive.serializers.drive import DriveQuery, FolderIdField
from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import StrictSerializer


def folder_url(request: Request, folder_id: object, name: str = "folder") -> str:
    """Return the absolute URL of a folder, or of another view of it."""
    return request.build_absolute_uri(reverse(f"v1:{name}", args=[folder_id]))


class FolderUrlsSerializer(serializers.Serializer[Any]):
    """URLs of a folder."""

    get = serializers.URLField(help_text="This folder.")
    archive = serializers.URLField(help_text="Its contents as a zip.")


class FolderSerializer(serializers.Serializer[Folder]):
    """A folder of the drive."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    parent = serializers.UUIDField(  # type: ignore[assignment]  # a field, not the attribute
        source="parent_id", allow_null=True, help_text="The parent's id; null at the top of the drive."
    )
    created_at = serializers.DateTimeField()
    trashed_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it was trashed; null if it is not in the trash. URLs of trashed items return 404.",
    )
    urls = serializers.SerializerMethodField()

    @extend_schema_field(FolderUrlsSerializer)
    def get_urls(self, folder: Folder) -> dict[str, str]:
        request = self.context["request"]
        return {
            "get": folder_url(request, folder.pk),
            "archive": folder_url(request, folder.pk, "folder-archive"),
        }


class StepSerializer(serializers.Serializer[Folder]):
    """A folder in a path."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class FolderDetailSerializer(FolderSerializer):
    """A folder of the drive, with its path."""

    path = serializers.SerializerMethodField(
        help_text="Folders from the top of the drive to this one, this one last."
    )

    @extend_schema_field(StepSerializer(many=True))
    def get_path(self, folder: Folder) -> Any:
        return [StepSerializer(step).data for step in services.ancestors_of(folder)]


class FolderQuery(DriveQuery):
    """Query parameters of the list of folders."""

    parent = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        required=False, help_text="Only folders in the folder with this id, or at the `top` of the drive."
    )
    order = ChoiceField(
        required=False,
        choices=["newest", "name"],
        help_text="`newest` first (the default), or by `name`.",
    )


class NewFolderSerializer(StrictSerializer):
    """A folder to create."""

    name = serializers.CharField(help_text="Up to 255 bytes, without a slash.", trim_whitespace=False)
    parent = FolderIdField(  # type: ignore[assignment]  # a field, not the attribute
        required=False, allow_null=True, help_text="The parent folder; default: the top of the drive."
    )


class FolderChanges(StrictSerializer):
    """Changes of a folder."""

    name = serializers.CharField(
        required=False, trim_whitespace=False, help_text="Up to 255 bytes, without a slash."
    )
    parent = FolderIdField(  # type: ignore[assignment]  # a field, not the attribute
        required=False,
        allow_null=True,
        help_text="Destination folder; `top` or null: the top of the drive.",
    )
