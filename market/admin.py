"""Django admin of listings, models and conversions. Versions and weights are read-only."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from ipau.common.admin import ModelAdmin, ReadOnlyAdmin
from market.listings import pauses
from market.models import (
    ChosenSample,
    Conversion,
    ConversionAccount,
    ConversionDay,
    JobSpeed,
    Listing,
    Pause,
    Sample,
    Speed,
    Version,
    Weights,
)


@admin.register(Listing)
class ListingAdmin(ModelAdmin):
    """Listings: texts and visibility. Texts of the platform's own listings are reset at the next start.

    Shared listings are public at once. «Taken down» hides a listing from everyone except its owner. Only
    operators can undo it.
    """

    list_display = (
        "title",
        "owner",
        "name",
        "kind",
        "tier",
        "visibility",
        "taken_down",
        "run_count",
        "created_at",
    )
    list_filter = ("kind", "tier", "visibility", "taken_down")
    list_select_related = ("owner",)
    search_fields = ("title", "name", "owner__handle")
    fields = (
        "owner",
        "name",
        "kind",
        "tier",
        "title",
        "summary",
        "description",
        "visibility",
        "taken_down",
        "archived_at",
        "run_count",
    )
    readonly_fields = ("owner", "name", "kind", "archived_at", "run_count")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Listing | None = None) -> bool:
        return False


@admin.register(Version)
class VersionAdmin(ReadOnlyAdmin):
    """Versions of listings, read-only."""

    list_display = ("id", "listing", "number", "created_at")
    list_filter = ("listing__kind",)
    list_select_related = ("listing",)
    search_fields = ("=id", "listing__name", "listing__title")


@admin.register(Weights)
class WeightsAdmin(ReadOnlyAdmin):
    """Converted weights, read-only."""

    list_display = ("digest", "family", "task", "source_sha256", "created_at")
    list_filter = ("family", "task")
    search_fields = ("=digest", "=source_sha256")


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    """Models whose runs were killed, and models paused for that."""

    list_display = ("weights", "kills", "counted_since", "paused_at")
    list_select_related = ("weights",)
    search_fields = ("=weights__digest", "weights__versions__listing__name")
    actions = ("resume",)

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Require the «change» permission, which has no other use on this read-only page."""
        return bool(request.user.has_perm("market.change_pause"))

    @admin.action(description="Resume selected models", permissions=["resume"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Pause]) -> None:
        for pause in queryset.select_related("weights"):
            pauses.resume(weights=pause.weights)
        self.message_user(request, "Models resumed. Their kill counters start at 0.")


@admin.register(Conversion)
class ConversionAdmin(ReadOnlyAdmin):
    """Conversions of uploaded weights, with their reports."""

    list_display = ("source_name", "owner", "name", "state", "attempts", "created_at", "completed_at")
    list_filter = ("state", "family")
    list_select_related = ("owner",)
    search_fields = ("=id", "name", "source_name", "owner__handle", "=source_sha256")


@admin.register(ConversionAccount)
class ConversionAccountAdmin(ModelAdmin):
    """Daily conversion minutes of each account."""

    ordering = ("owner",)
    common_readonly = ()
    list_display = ("owner", "minutes_a_day", "lease_expires_at")
    list_select_related = ("owner",)
    search_fields = ("owner__handle", "owner__email")
    autocomplete_fields = ("owner",)
    fields = ("owner", "minutes_a_day")

    def get_readonly_fields(
        self, request: HttpRequest, obj: ConversionAccount | None = None
    ) -> tuple[str, ...]:
        return ("owner",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: ConversionAccount | None = None) -> bool:
        return False


@admin.register(ConversionDay)
class ConversionDayAdmin(ReadOnlyAdmin):
    """Seconds of conversions per account and day."""

    list_display = ("day", "owner", "seconds")
    list_filter = ("day",)
    list_select_related = ("owner",)
    search_fields = ("owner__handle", "owner__email")
    common_readonly = ()


@admin.register(Speed)
class SpeedAdmin(ReadOnlyAdmin):
    """Speeds of models in their trials, by device."""

    list_display = ("weights", "kind", "device", "first_ms", "each_ms", "runs")
    list_filter = ("kind",)
    list_select_related = ("weights",)


@admin.register(JobSpeed)
class JobSpeedAdmin(ReadOnlyAdmin):
    """Speeds of models in jobs, by device."""

    list_display = ("weights", "kind", "device", "pictures", "each_ms", "updated_at")
    list_filter = ("kind",)
    list_select_related = ("weights",)
    search_fields = ("=weights__digest", "device")


@admin.register(Sample)
class SampleAdmin(ReadOnlyAdmin):
    """Results of models for the sample images of the site."""

    list_display = ("weights", "position", "caption", "created_at")
    list_select_related = ("weights",)


@admin.register(ChosenSample)
class ChosenSampleAdmin(ReadOnlyAdmin):
    """Sample images that owners chose for their models."""

    list_display = ("listing", "position", "is_due", "attempts", "created_at")
    list_filter = ("is_due",)
    list_select_related = ("listing",)
    search_fields = ("listing__name", "=digest")
