"""The list of apps."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from market import services


@require_GET
def apps(request: HttpRequest) -> HttpResponse:
    """Show every app that the person may run."""
    return render(request, "market/apps.html", {"listings": services.list_apps(user=request.user)})
