"""Links as the API tells and takes them."""

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
    """What visitors may do."""

    VIEW = "view"
    DOWNLOAD = "download"


class ShareUrlsSerializer(serializers.Serializer[Any]):
    """Where a link's description is found."""

    get = serializers.URLField(help_text="This description.")


class ShareSerializer(serializers.Serializer[Share]):
    """A link by which others see one file or one folder."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField(help_text="What you give to others: whoever has it can enter.")
    file = serializers.UUIDField(source="file_id", allow_null=True, help_text="The file's id, or null.")
    folder = serializers.UUIDField(source="folder_id", allow_null=True, help_text="The folder's id, or null.")
    name = serializers.SerializerMethodField(help_text="The file's or folder's name.")
    label = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        help_text="What you call it; visitors do not see it."
    )
    access = serializers.SerializerMethodField(help_text="Whether visitors may `download`, or only `view`.")
    has_password = serializers.SerializerMethodField(help_text="Whether visitors are asked for a password.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Null: it works until it is revoked.")
    works = serializers.SerializerMethodField(
        help_text="False when it has ended, or what it leads to is in the trash."
    )
    visits = serializers.IntegerField(help_text="How often somebody has come.")
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
    # The database sees to it that a link leads to one thing.
    assert shown is not None
    return shown


class ShareQuery(PageQuery):
    """Which links to list."""

    file = serializers.UUIDField(required=False, help_text="Only those to the file with this id.")
    folder = serializers.UUIDField(required=False, help_text="Only those to the folder with this id.")


class ShareTerms(StrictSerializer):
    """On which terms others may enter."""

    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        help_text=f"Up to {services.MOST_DAYS} days ahead; null: it works until it is revoked.",
    )
    password = serializers.CharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        trim_whitespace=False,
        max_length=services.MOST_PASSWORD,
        help_text="What visitors must know; empty or null: nothing. No answer ever tells it.",
    )
    access = ChoiceField(
        required=False,
        choices=Access.choices,
        help_text="`download`: visitors get the files. `view`: they see images with up to "
        f"{VIEW_SIDE} pixels a side, play videos and read texts, and get no original images, weights or "
        "archives.",
    )
    label = serializers.CharField(  # type: ignore[assignment]  # a field, not the attribute
        required=False,
        allow_blank=True,
        max_length=services.MOST_LABEL,
        help_text="What you call it; visitors do not see it.",
    )

    def terms(self) -> dict[str, Any]:
        """Return what was sent, as the services take it."""
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
    """A link to make: to one file or to one folder. Without terms it works for 30 days, with downloads."""

    file = serializers.UUIDField(required=False, allow_null=True, help_text="The file's id.")
    folder = serializers.UUIDField(required=False, allow_null=True, help_text="Or the folder's.")
