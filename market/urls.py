"""Pages of the market, mounted under /apps/."""

from django.urls import path

from market import views

app_name = "market"
urlpatterns = [path("", views.apps, name="apps")]
