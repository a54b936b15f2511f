"""Django admin of accounts, API keys and e-mail addresses."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.forms import AdminPasswordChangeForm

from accounts.forms import UserAdminForm, UserCreateForm
from accounts.models import ApiKey, User
from accounts.services import revoke_api_key, set_users_active
from ipau.common.admin import ModelAdmin, ReadOnlyAdmin

admin.site.unregister([Group, EmailAddress])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg,misc]  # Django and unfold bases
    """Accounts. They are deactivated, never deleted, because jobs and transfers refer to them."""

    form = UserAdminForm
    add_form = UserCreateForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("-id",)
    list_display = ("email", "handle", "name", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "handle", "name")
    filter_horizontal = ("user_permissions",)
    actions = ("activate", "deactivate")
    fieldsets = (
        (None, {"fields": ("email", "handle", "name", "password")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "user_permissions")}),
        (_("Drive"), {"fields": ("quota_bytes",)}),
        (_("Dates"), {"fields": ("id", "last_login", "created_at", "updated_at")}),
    )
    add_fieldsets: Any = (
        (None, {"fields": ("email", "handle", "usable_password", "password1", "password2")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Make permissions read-only, except for superusers. An operator must not promote themselves."""
        fields = (*super().get_readonly_fields(request, obj), "last_login")
        permissions = ("is_staff", "is_superuser", "user_permissions")
        return fields if request.user.is_superuser else (*fields, *permissions)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Refuse operators changes to superusers: they could set the password and sign in."""
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    @admin.action(description=_("Activate selected accounts"), permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=True)

    @admin.action(description=_("Deactivate selected accounts"), permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_active(request, queryset, active=False)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[User], *, active: bool) -> None:
        allowed = [user for user in queryset if self.has_change_permission(request, user)]
        count = set_users_active(users=allowed, active=active, by=request.user)  # type: ignore[arg-type]  # staff
        text = ngettext("%(count)d account changed.", "%(count)d accounts changed.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """API keys, read-only except for revoking. The secret is never shown."""

    list_display = ("name", "prefix", "user", "scopes", "last_used_at", "expires_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__email", "user__handle")
    exclude = ("digest",)
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Require the table's «change» permission, which read-only pages refuse otherwise."""
        return bool(request.user.has_perm("accounts.change_apikey"))

    @admin.action(description=_("Revoke selected keys"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.select_related("user"))
        for key in keys:
            revoke_api_key(user=key.user, key_id=key.pk)
        text = ngettext("%(count)d key revoked.", "%(count)d keys revoked.", len(keys)) % {"count": len(keys)}
        self.message_user(request, text, messages.SUCCESS)


@admin.register(EmailAddress)
class EmailAddressAdmin(ReadOnlyAdmin):
    """E-mail addresses. An operator can only mark one as verified, if no e-mail reaches the user.

    A new or changed address could be used to take over an account.
    """

    list_display = ("email", "user", "verified", "primary")
    list_filter = ("verified", "primary")
    list_select_related = ("user",)
    search_fields = ("email", "user__handle")
    common_readonly = ()
    actions = ("verify",)

    def has_verify_permission(self, request: HttpRequest) -> bool:
        """Require the table's «change» permission, which read-only pages refuse otherwise."""
        return bool(request.user.has_perm("account.change_emailaddress"))

    @admin.action(description=_("Mark selected addresses as verified"), permissions=["verify"])
    def verify(self, request: HttpRequest, queryset: QuerySet[EmailAddress]) -> None:
        count = sum(address.set_verified() for address in queryset.filter(verified=False))
        text = ngettext("%(count)d address verified.", "%(count)d addresses verified.", count) % {
            "count": count
        }
        self.message_user(request, text, messages.SUCCESS)
