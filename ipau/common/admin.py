"""Base classes of all admin pages. Other modules must not use unfold's ModelAdmin directly."""

from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin as UnfoldModelAdmin


class ModelAdmin(UnfoldModelAdmin):
    """Admin page of one table: newest rows first, common columns read-only."""

    ordering = ("-id",)
    list_per_page = 50
    # Counting all rows for «12 of 3,000,000» is slow on large tables.
    show_full_result_count = False
    warn_unsaved_form = True
    common_readonly: tuple[str, ...] = ("id", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the read-only columns: for an existing row, the common columns too."""
        names = tuple(super().get_readonly_fields(request, obj))
        return names if obj is None else (*names, *(n for n in self.common_readonly if n not in names))


class ReadOnlyAdmin(ModelAdmin):
    """Admin page of rows that are history or that only a service may change. Actions still work."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
