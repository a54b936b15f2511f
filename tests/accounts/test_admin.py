"""Admin of accounts, API keys and e-mail addresses: permissions and actions."""

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import ApiKey, User
from accounts.services import create_api_key
from ipau.common.admin import ModelAdmin, ReadOnlyAdmin
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
OURS = ("accounts", "drive", "market", "processing")


@pytest.fixture
def root() -> User:
    return UserFactory(is_staff=True, is_superuser=True)


@pytest.fixture
def operator() -> User:
    person = UserFactory(is_staff=True)
    person.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    return person


def act(client: Client, name: str, action: str, *rows: Any) -> None:
    url = reverse(f"admin:{name}_changelist")
    response = client.post(url, {"action": action, "_selected_action": [str(row.pk) for row in rows]})
    assert response.status_code == 302, response.content.decode()[:2000]


def test_every_admin_page_uses_the_local_base_and_opens(root: User, client_of) -> None:
    browser = client_of(root)
    browser.get("/admin/")  # Only now are all pages registered.
    assert len(admin.site._registry) >= 3
    for model, page in admin.site._registry.items():
        label = model._meta.app_label
        if label in OURS:
            assert isinstance(page, ModelAdmin), model
        url = reverse(f"admin:{label}_{model._meta.model_name}_changelist")
        assert browser.get(url, {"q": "x"}).status_code == 200, model


def test_an_account_is_created_with_address_and_password(root: User, client_of) -> None:
    form = {"email": "Grace@Example.org", "handle": "", "usable_password": "true"}
    form |= {"password1": PASSWORD, "password2": PASSWORD}
    response = client_of(root).post(reverse("admin:accounts_user_add"), form)
    assert response.status_code == 302, response.content.decode()
    person = User.objects.get(email="grace@example.org")
    assert person.handle == "grace"
    assert person.check_password(PASSWORD)


def test_an_address_in_use_is_refused(root: User, client_of) -> None:
    UserFactory(email="grace@example.org")
    form = {"email": "GRACE@example.org", "usable_password": "true"}
    form |= {"password1": PASSWORD, "password2": PASSWORD}
    response = client_of(root).post(reverse("admin:accounts_user_add"), form)
    assert "This e-mail address is already in use." in response.content.decode()


def test_accounts_are_deactivated_and_activated_except_ones_own(root: User, user: User, client_of) -> None:
    browser = client_of(root)
    act(browser, "accounts_user", "deactivate", user, root)
    assert not User.objects.get(pk=user.pk).is_active
    assert User.objects.get(pk=root.pk).is_active
    act(browser, "accounts_user", "activate", user)
    assert User.objects.get(pk=user.pk).is_active


def test_accounts_cannot_be_deleted(root: User, user: User, client_of) -> None:
    response = client_of(root).post(reverse("admin:accounts_user_delete", args=[user.pk]), {"post": "yes"})
    assert response.status_code == 403
    assert User.objects.filter(pk=user.pk).exists()


def test_an_operator_cannot_grant_permissions(operator: User, user: User, client_of) -> None:
    url = reverse("admin:accounts_user_change", args=[user.pk])
    form = {"email": user.email, "handle": user.handle, "name": "Changed", "is_active": "on"}
    response = client_of(operator).post(url, {**form, "is_staff": "on", "is_superuser": "on"})
    assert response.status_code == 302
    changed = User.objects.get(pk=user.pk)
    assert changed.name == "Changed"
    assert not changed.is_staff
    assert not changed.is_superuser


def test_an_operator_cannot_touch_a_superuser(operator: User, root: User, client_of) -> None:
    browser = client_of(operator)
    password = reverse("admin:auth_user_password_change", args=[root.pk])
    form = {"password1": "a new long sentence", "password2": "a new long sentence", "usable_password": "true"}
    assert browser.post(password, form).status_code == 403
    act(browser, "accounts_user", "deactivate", root)
    kept = User.objects.get(pk=root.pk)
    assert kept.is_active
    assert kept.check_password(PASSWORD)


def test_keys_are_read_only_but_can_be_revoked(root: User, user: User, client_of) -> None:
    key = create_api_key(user=user, name="Lab").row
    browser = client_of(root)
    page = browser.get(reverse("admin:accounts_apikey_change", args=[key.pk])).content.decode()
    assert key.digest not in page
    assert browser.get(reverse("admin:accounts_apikey_add")).status_code == 403
    act(browser, "accounts_apikey", "revoke", key)
    assert ApiKey.objects.get().revoked_at is not None


def test_an_address_can_be_verified_and_not_changed(root: User, client_of) -> None:
    person = UserFactory(verified=False)
    address = EmailAddress.objects.create(user=person, email=person.email, primary=True)
    browser = client_of(root)
    assert browser.get(reverse("admin:account_emailaddress_add")).status_code == 403
    act(browser, "account_emailaddress", "verify", address)
    assert EmailAddress.objects.get(user=person).verified


def test_read_only_pages_refuse_changes(root: User, rf) -> None:
    request = rf.get("/")
    request.user = root
    page = ReadOnlyAdmin(ApiKey, admin.site)
    assert page.has_view_permission(request)
    assert not page.has_add_permission(request)
    assert not page.has_change_permission(request)
    assert not page.has_delete_permission(request)
