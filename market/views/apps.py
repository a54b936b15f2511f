"""Page of apps and shared pipelines."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from ipau.common.paging import paginate
from market.covers import with_mosaics
from market.listings import services
from market.pipelines import services as pipelines

PIPELINES_A_PAGE = 24


@require_GET
def apps(request: HttpRequest) -> HttpResponse:
    """List the apps that the user may run, and the shared pipelines, newest first."""
    page = paginate(
        with_mosaics(pipelines.list_shared_pipelines()),
        order=("-id",),
        size=PIPELINES_A_PAGE,
        cursor=request.GET.get("cursor"),
    )
    context = {"listings": services.list_apps(user=request.user), "page": page}
    return render(request, "market/apps.html", context)
