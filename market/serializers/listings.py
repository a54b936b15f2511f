"""Listings and versions as the API tells them."""

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

# A version says what one would need of the tool that hosted inference packs models with; ours has none.
COG_VERSION = "0.16.0"


class VersionSerializer(serializers.Serializer[Version]):
    """An immutable release of an app or a model."""

    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Counts up from 1.")
    created_at = serializers.DateTimeField()
    cog_version = serializers.SerializerMethodField(help_text="For clients that ask; means nothing here.")
    openapi_schema = serializers.SerializerMethodField(
        help_text="What it takes and gives: components.schemas.Input and .Output."
    )
    confirmed = serializers.BooleanField(
        source="is_confirmed",
        help_text="Else its owner alone runs it, who has yet to confirm how it is read.",
    )
    weights = serializers.SerializerMethodField(help_text="What a model runs; null for all else.")

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
        source="summary", help_text="One sentence. `readme` has its page of its own."
    )
    kind = serializers.ChoiceField(choices=ListingKind.choices)
    tier = serializers.ChoiceField(choices=Tier.choices)
    visibility = serializers.ChoiceField(choices=Visibility.choices)
    run_count = serializers.IntegerField(help_text="How many pictures it was run on.")
    github_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    paper_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    license_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    cover_image_url = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    default_example = serializers.SerializerMethodField(method_name="get_nothing", help_text="Always null.")
    latest_version = serializers.SerializerMethodField()

    def get_url(self, listing: Listing) -> str:
        # By its name only: the page itself is a room further up.
        path = reverse("processing:app", args=[listing.owner.handle, listing.name])
        found: str = self.context["request"].build_absolute_uri(path)
        return found

    def get_nothing(self, listing: Listing) -> str | None:
        return None

    @extend_schema_field(VersionSerializer(allow_null=True))
    def get_latest_version(self, listing: Listing) -> dict[str, Any] | None:
        # The view has fetched them with the rows, newest first.
        version = next(iter(listing.versions.all()), None)
        if version is None:
            return None
        version.listing = listing
        return dict(VersionSerializer(version, context=self.context).data)


class ModelChangeSerializer(StrictSerializer):
    """What changes of a model; the rest stays."""

    title = serializers.CharField(required=False, max_length=TITLE_LENGTH, help_text="What people read.")
    description = serializers.CharField(
        required=False, allow_blank=True, max_length=SUMMARY_LENGTH, help_text="One sentence."
    )
    readme = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=DESCRIPTION_LENGTH,
        help_text="A page of Markdown: intended use, limits, training data, metrics, licence.",
    )


class ModelQuery(PageQuery):
    """Which apps and models to list."""

    q = serializers.CharField(required=False, help_text="Words of the name, title, summary or owner.")
