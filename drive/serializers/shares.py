"""API serializers of share links."""

from typing import Any

from django.db.models import TextChoices
from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from drive.models import File, Folder, Share
from drive.shares import services
from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import PageQuery, StrictSerializer
from workers.thumbnail_sizes import VIEW_SIDE


class Access(TextChoices):
    """What visitors can do."""

    VIEW = "view"
    DOWNLOAD = "download"


class ShareUrlsSerializer(serializers.Serializer[Any]):
    """URLs of a link."""

    get = serializers.URLField(help_text="This link.")


class ShareSerializer(serializers.Serializer[Share]):
    """A link to one file or one folder."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField(help_text="The link for visitors. Anyone with it can open it.")
    file = serializers.UUIDField(source="file_id", allow_null=True, help_text="The file's id, or null.")
    folder = serializers.UUIDField(source="folder_id", allow_null=True, help_text="The folder's id, or null.")
    name = serializers.SerializerMethodField(help_text="The file's or folder's name.")
    label = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        help_text="Your own name for the link. Visitors don't see it."
    )
    access = serializers.SerializerMethodField(help_text="Whether visitors may `download`, or only `view`.")
    has_password = serializers.SerializerMethodField(help_text="Whether visitors are asked for a password.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Null: no expiry.")
    works = serializers.SerializerMethodField(
        help_text="False if the link has expired or was revoked, or if its file or folder is in the trash."
    )
    visits = serializers.IntegerField(help_text="Number of visits.")
    last_visited_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    urls = serializers.SerializerMethodField()

    def get_url(self, share: Share) -> str:
        address: str = self.context["request"].build_absolute_uri(services.path_of(share))
        return address

    def get_name(self, share: Share) -> str:
        return _shown(share).name

    @extend_schema_field(serializers.ChoiceField(choices=Access.choices))
    def get_access(self, share: Share) -> str:
        return Access.DOWNLOAD if share.can_download else Access.VIEW

    def get_has_password(self, share: Share) -> bool:
        return bool(share.password)

    def get_works(self, share: Share) -> bool:
        ended = share.is_expired or share.revoked_at is not None
        return not ended and _shown(share).trashed_at is None

    @extend_schema_field(ShareUrlsSerializer)
    def get_urls(self, share: Share) -> dict[str, str]:
        address = reverse("v1:share", args=[share.pk])
        return {"get": self.context["request"].build_absolute_uri(address)}


def _shown(share: Share) -> File | Folder:
    shown = share.file or share.folder
    # A database constraint guarantees exactly one target.
    assert shown is not None
    return shown


class ShareQuery(PageQuery):
    """Query parameters of the list of links."""

    file = serializers.UUIDField(required=False, help_text="Only links to the file with this id.")
    folder = serializers.UUIDField(required=False, help_text="Only links to the folder with this id.")


class ShareTerms(StrictSerializer):
    """Settings of a link."""

    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        help_text=f"Up to {services.MOST_DAYS} days ahead; null: no expiry.",
    )
    password = serializers.CharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        trim_whitespace=False,
        max_length=services.MOST_PASSWORD,
        help_text="Password for visitors; empty or null: none. Responses never contain it.",
    )
    access = ChoiceField(
        required=False,
        choices=Access.choices,
        help_text="`download`: visitors can download the files. `view`: they see images with up to "
        f"{VIEW_SIDE} pixels a side, play videos and read texts, and get no original images, weights or "
        "archives.",
    )
    label = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        required=False,
        allow_blank=True,
        max_length=services.MOST_LABEL,
        help_text="Your own name for the link. Visitors don't see it.",
    )

    def terms(self) -> dict[str, Any]:
        """Return the sent settings as arguments of the services."""
        sent = self.validated_data
        found = {"expires_at": sent["expires_at"]} if "expires_at" in sent else {}
        if "password" in sent:
            found["password"] = sent["password"] or ""
        if "label" in sent:
            found["label"] = sent["label"]
        if "access" in sent:
            found["can_download"] = sent["access"] == Access.DOWNLOAD
        return found


class NewShareSerializer(ShareTerms):
    """A link to create, to one file or one folder. Defaults: 30 days, with downloads."""

    file = serializers.UUIDField(required=False, allow_null=True, help_text="The file's id.")
    folder = serializers.UUIDField(required=False, allow_null=True, help_text="The folder's id.")
