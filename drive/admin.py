"""Admin pages of files, folders, blobs, uploads, links and usage. Content is read-only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from drive.models import Blob, DriveUsage, File, Folder, Share, Upload
from ipau.common.admin import ModelAdmin, ReadOnlyAdmin


class OwnedAdmin(ModelAdmin):
    """Rows of a drive. An operator can change only the name."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Folder)
class FolderAdmin(OwnedAdmin):
    """Folders."""

    list_display = ("name", "owner", "parent", "trashed_at", "created_at")
    list_select_related = ("owner", "parent")
    list_filter = (("trashed_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "owner__email", "=id")
    readonly_fields = ("owner", "parent", "trashed_at", "trash_root")


@admin.register(File)
class FileAdmin(OwnedAdmin):
    """Files. The blob and everything read from it are read-only."""

    list_display = ("name", "owner", "state", "content_type", "size", "trashed_at", "created_at")
    list_select_related = ("owner",)
    list_filter = ("state", "kind", "content_type", ("trashed_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "owner__email", "=id", "=blob__sha256")
    readonly_fields = (
        "owner",
        "folder",
        "blob",
        "kind",
        "content_type",
        "size",
        "width",
        "height",
        "state",
        "reason",
        "metadata",
        "lease_token",
        "lease_expires_at",
        "attempts",
        "trashed_at",
        "trash_root",
    )


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    """Blobs in the storage."""

    ordering = ("-created_at",)
    list_display = ("sha256", "content_type", "size", "created_at", "touched_at")
    list_filter = ("content_type",)
    search_fields = ("=sha256",)
    common_readonly = ("sha256", "created_at")

    @admin.display(description=_("files"))
    def file_count(self, blob: Blob) -> int:
        return blob.files.count()

    fields = ("sha256", "content_type", "size", "created_at", "touched_at", "file_count")
    readonly_fields = ("file_count",)


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    """Resumable uploads, to find stuck ones."""

    list_display = ("name", "owner", "length", "offset", "expires_at", "completed_at")
    search_fields = ("name", "owner__email")
    list_select_related = ("owner",)


@admin.register(Share)
class ShareAdmin(ReadOnlyAdmin):
    """Share links. Neither the token nor the password is shown."""

    list_display = ("__str__", "owner", "file", "folder", "expires_at", "revoked_at", "visits")
    search_fields = ("owner__email",)
    list_select_related = ("owner", "file", "folder")
    exclude = ("token", "password")


@admin.register(DriveUsage)
class DriveUsageAdmin(ReadOnlyAdmin):
    """Usage of each account, largest first."""

    ordering = ("-used_bytes",)
    list_display = ("owner", "used_bytes", "files")
    list_select_related = ("owner",)
    search_fields = ("owner__email",)
    common_readonly = ()
