"""Start page: welcome page for visitors, recent work for signed-in accounts."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.models import User
from drive.uploads.services import SHOWN, unfinished_uploads
from market.covers import with_covers
from market.listings import services as market
from processing.fleet import registry
from processing.playground import picture_choices
from processing.views.app_page import person_of
from processing.views.jobs import jobs_of

JOBS_SHOWN = 6
MODELS_SHOWN = 8


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show the welcome page to visitors, and recent jobs and uploads to signed-in accounts."""
    person = person_of(request)
    listings = {
        "listings": market.list_apps(user=person),
        "models": with_covers(market.list_newest_models(user=person), user=person)[:MODELS_SHOWN],
    }
    if person is None:
        return render(request, "processing/welcome.html", listings)
    context = {
        **_recent(person),
        **listings,
        "pictures": picture_choices.pictures_of(person),
        "slots": registry.served_queues(),
        "unfinished": list(unfinished_uploads(owner=person)[:SHOWN]),
    }
    return render(request, "processing/home.html", context)


@require_GET
def recent_jobs(request: HttpRequest) -> HttpResponse:
    """Return the recent jobs, for the poll of the start page."""
    person = person_of(request)
    if person is None:
        return HttpResponse(status=404)
    return render(request, "processing/recent_jobs.html", _recent(person))


def _recent(person: User) -> dict[str, object]:
    jobs = list(jobs_of(person).order_by("-id")[:JOBS_SHOWN])
    return {"jobs": jobs, "live": any(job.is_open for job in jobs)}
