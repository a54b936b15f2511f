"""URLs of the settings pages, mounted under /settings/."""

from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("", views.settings_page, name="settings"),
    path("keys/", views.keys_page, name="keys"),
    path("keys/<uuid:key_id>/revoke/", views.revoke_key, name="key-revoke"),
]
