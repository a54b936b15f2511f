"""What all administration pages share. No other module takes unfold's ModelAdmin."""

from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin as UnfoldModelAdmin


class ModelAdmin(UnfoldModelAdmin):
    """A page for rows of one table: newest first, with the columns that every table has read-only."""

    ordering = ("-id",)
    list_per_page = 50
    # Counting all rows to say «12 of 3,000,000» makes the page slow on large tables.
    show_full_result_count = False
    warn_unsaved_form = True
    common_readonly: tuple[str, ...] = ("id", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Add the common columns to the read-only ones of an existing row."""
        given = tuple(super().get_readonly_fields(request, obj))
        return given if obj is None else (*given, *(n for n in self.common_readonly if n not in given))


class ReadOnlyAdmin(ModelAdmin):
    """Rows that are history, or that only a service may change. Actions are still possible."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
