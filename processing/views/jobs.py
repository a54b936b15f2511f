"""Pages of jobs: list, progress, results, canceling, retrying and running again."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.requests import SignedInRequest
from ipau.common.errors import Conflict
from ipau.common.paging import paginate
from market.listings.io_schema import schema_with_current_texts
from processing import services
from processing.forms.run_form import fields_of
from processing.job_queue import job_log
from processing.models import OPEN, Job, JobKind, State
from processing.playground import session_selection
from processing.reporting import progress
from processing.reporting.used_parameters import as_text, describe_used

JOBS_A_PAGE = 30


@login_required
@require_GET
def jobs(request: SignedInRequest) -> HttpResponse:
    """List the jobs of the account, newest first, filtered by `state` and `kind`. htmx gets only the rows."""
    state, kind = request.GET.get("state", ""), request.GET.get("kind", "")
    rows = jobs_of(request.user)
    if state == "open":
        rows = rows.filter(state__in=OPEN)
    elif state in State.values:
        rows = rows.filter(state=state)
    if kind in JobKind.values:
        rows = rows.filter(kind=kind)
    page = paginate(rows, order=("-id",), size=JOBS_A_PAGE, cursor=request.GET.get("cursor"))
    context = {
        "page": page,
        "state": state,
        "kind": kind,
        "states": [("", _("All")), ("open", _("Running")), *_ended_states()],
        "query": urlencode({key: value for key, value in (("state", state), ("kind", kind)) if value}),
        "address": request.get_full_path(),
        "live": any(job.is_open for job in page.rows),
    }
    return render(request, "processing/jobs.html#rows" if request.htmx else "processing/jobs.html", context)


def jobs_of(person: Any) -> QuerySet[Job]:
    """Return the jobs of an account, with the related rows that lists show."""
    rows = Job.objects.visible_to(person).select_related("version__listing__owner", "output_folder")
    visible: QuerySet[Job] = rows
    return visible


@login_required
@require_GET
def job_page(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Show a job with its first results."""
    job = services.get_job(owner=request.user, job_id=job_id)
    results = progress.results_after(job)
    context = {**_describe(job), "results": results, "shown": len(results.items)}
    return render(request, "processing/job.html", context)


@login_required
@require_GET
def job_progress(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Return the state and the results after the cursor `after`. The page already shows `shown` results.

    The response for an ended job has no trigger, so the polling stops.
    """
    job = services.get_job(owner=request.user, job_id=job_id)
    shown = _number(request.GET.get("shown"))
    room = max(0, progress.RESULTS_A_PAGE - shown)
    results = progress.results_after(job, request.GET.get("after", ""), limit=room)
    context = {**_describe(job), "results": results, "shown": shown + len(results.items), "polled": True}
    return render(request, "processing/job_progress.html", context)


@login_required
@require_GET
def job_results(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Return the results after the cursor `after`."""
    job = services.get_job(owner=request.user, job_id=job_id)
    results = progress.results_after(job, request.GET.get("after", ""))
    template = "processing/results.html" if request.htmx else "processing/results_page.html"
    return render(request, template, {"job": job, "results": results})


@login_required
@require_GET
def job_item(request: SignedInRequest, job_id: UUID, position: int) -> HttpResponse:
    """Show one item of a job, before and after. htmx gets the content of a dialog."""
    job = services.get_job(owner=request.user, job_id=job_id)
    item = services.get_item(job=job, position=position)
    template = "processing/item.html" if request.htmx else "processing/item_page.html"
    return render(request, template, {"job": job, "item": item})


@login_required
@require_POST
def cancel_job(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Cancel a job. Its results are kept."""
    try:
        services.cancel_job(owner=request.user, job_id=job_id)
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("Job canceled. Finished results stay in your drive."))
    return redirect("processing:job", job_id)


@login_required
@require_POST
def retry_job(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Retry failed items or resume canceled ones. The page says so if there are none."""
    was_canceled = services.get_job(owner=request.user, job_id=job_id).canceled > 0
    message = _("The job continues where it stopped.") if was_canceled else _("Retrying failed images.")
    try:
        services.retry_job(owner=request.user, job_id=job_id)
    except Conflict as error:
        messages.info(request, error.message)
    else:
        messages.success(request, message)
    return redirect("processing:job", job_id)


@login_required
@require_POST
def run_again(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Open the app of a job with the same settings, options and remaining images."""
    job = services.get_job(owner=request.user, job_id=job_id)
    listing = job.version.listing
    query = {name: as_text(value) for name, value in _known_input(job).items()} | fields_of(job)
    earlier = services.earlier_pictures(owner=request.user, job_id=job_id)
    if len(earlier.selection) == 1:
        query["file"] = str(earlier.selection.files[0].pk)
    elif earlier.selection:
        query["selection"] = f"{session_selection.OF_JOB}{job.pk}"
    if earlier.skipped:
        messages.warning(request, job_log.skipped_text(earlier.skipped))
    page = reverse("processing:app", args=[listing.owner.handle, listing.name])
    return redirect(f"{page}?{urlencode(query)}")


def _ended_states() -> list[tuple[str, str]]:
    return [(s.value, str(s.label)) for s in (State.SUCCEEDED, State.FAILED, State.CANCELED)]


def _describe(job: Job) -> dict[str, Any]:
    """Return the context of the changing part of the page of a job."""
    left = progress.seconds_left(job)
    return {
        "job": job,
        "listing": job.version.listing,
        "left": progress.time_text(left) if left is not None else "",
        "waiting": progress.waiting_text(job),
        "failures": progress.failures_of(job),
        "took": _took(job),
        "params": describe_used(schema_with_current_texts(job.version), job.recipe),
    }


def _took(job: Job) -> str:
    if job.started_at is None or job.completed_at is None:
        return ""
    seconds = (job.completed_at - job.started_at).total_seconds()
    return progress.time_text(seconds) if seconds >= 1 else _("less than a second")


def _known_input(job: Job) -> dict[str, Any]:
    known = job.version.params_schema.get("properties", {})
    return {name: value for name, value in job.input.items() if name in known}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
