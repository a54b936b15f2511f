"""Serializers of listings and versions."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ipau.common.api.views import PageQuery, StrictSerializer
from market.listings.io_schema import openapi_of
from market.listings.names import SUMMARY_LENGTH, TITLE_LENGTH
from market.models import Listing, ListingKind, Tier, Version, Visibility
from market.serializers.weights import WeightsSerializer
from market.weights.services import DESCRIPTION_LENGTH

# Clients of hosted inference expect the version of Cog. Models here do not use it.
COG_VERSION = "0.16.0"


class VersionSerializer(serializers.Serializer[Version]):
    """An immutable release of an app or a model."""

    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Counts up from 1.")
    created_at = serializers.DateTimeField()
    cog_version = serializers.SerializerMethodField(
        help_text="Constant, for compatibility with clients of hosted inference."
    )
    openapi_schema = serializers.SerializerMethodField(
        help_text="Schemas of input and output: components.schemas.Input and .Output."
    )
    confirmed = serializers.BooleanField(
        source="is_confirmed",
        help_text="False until the owner confirms the output layout. Until then only the owner can run it.",
    )
    weights = serializers.SerializerMethodField(help_text="Weights of a model; null for apps and pipelines.")

    def get_cog_version(self, version: Version) -> str:
        return COG_VERSION

    def get_openapi_schema(self, version: Version) -> dict[str, Any]:
        return openapi_of(version)

    @extend_schema_field(WeightsSerializer(allow_null=True))
    def get_weights(self, version: Version) -> Any:
        if version.weights is None:
            return None
        return WeightsSerializer(version.weights, context={**self.context, "version": version}).data


class ModelSerializer(serializers.Serializer[Listing]):
    """An app or a model under the address `owner/name`."""

    url = serializers.SerializerMethodField(help_text="Its page.")
    owner = serializers.CharField(source="owner.handle")
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField(
        source="summary", help_text="One sentence. The long text is at `readme`."
    )
    kind = serializers.ChoiceField(choices=ListingKind.choices)
    tier = serializers.ChoiceField(choices=Tier.choices)
    visibility = serializers.ChoiceField(choices=Visibility.choices)
    run_count = serializers.IntegerField(help_text="Number of images it was run on.")
    github_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    paper_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    license_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    cover_image_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    default_example = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    latest_version = serializers.SerializerMethodField()

    def get_url(self, listing: Listing) -> str:
        # By URL name only: the page belongs to the app `processing`, which market must not import.
        path = reverse("processing:app", args=[listing.owner.handle, listing.name])
        url: str = self.context["request"].build_absolute_uri(path)
        return url

    def get_nothing(self, listing: Listing) -> str | None:
        return None

    @extend_schema_field(VersionSerializer(allow_null=True))
    def get_latest_version(self, listing: Listing) -> dict[str, Any] | None:
        # The view has prefetched the versions, newest first.
        version = next(iter(listing.versions.all()), None)
        if version is None:
            return None
        version.listing = listing
        return dict(VersionSerializer(version, context=self.context).data)


class ModelChangeSerializer(StrictSerializer):
    """Changes of a model. Missing fields stay as they are."""

    title = serializers.CharField(
        required=False, max_length=TITLE_LENGTH, help_text="The title shown on pages."
    )
    description = serializers.CharField(
        required=False, allow_blank=True, max_length=SUMMARY_LENGTH, help_text="One sentence."
    )
    readme = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=DESCRIPTION_LENGTH,
        help_text="Description in Markdown: intended use, limits, training data, metrics, license.",
    )


class ModelQuery(PageQuery):
    """Query parameters of the list of apps and models."""

    q = serializers.CharField(required=False, help_text="Words in the name, title, summary or owner.")
