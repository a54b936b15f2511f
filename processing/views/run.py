"""Run an app on many images: choose the app for a selection, get a quote, submit the job."""

import hashlib
import json
import uuid
from dataclasses import replace
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.requests import SignedInRequest
from drive.files.services import Selection
from ipau.common.errors import Conflict, Invalid, TooLarge
from market.covers import with_covers, with_mosaics
from market.listings import services as market
from market.pipelines.services import list_pipelines
from processing import services
from processing.forms.params_form import read_params
from processing.forms.run_form import RunForm
from processing.jobs.prepare import queue_of
from processing.models import Job
from processing.playground import picture_choices, session_selection
from processing.reporting import estimates
from processing.views import parameter_table
from processing.views.app_page import App, PageInputs, open_app, run_form, show_app
from processing.views.picture_selection import chosen_pictures

# Pipelines of the account offered for a selection, last changed first.
PIPELINES_SHOWN = 24
MODELS_SHOWN = 24


@login_required
@require_POST
def run(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Submit a job and redirect to its page. Show errors on the page that sent it.

    `request_key` of the page makes a double click, or the same page sent again, the same job.
    """
    app = open_app(request, owner, name)
    form = run_form(request.user, app, request.POST, request.FILES)
    chosen: Selection | None = None
    try:
        chosen = chosen_pictures(request, request.POST)
        job = _submit(request, app, form, chosen)
    except (Invalid, Conflict, TooLarge) as error:
        if parameter_table.is_table(request):
            return parameter_table.show_table(request, app, request.POST, error=error)
        form.show_domain_error(error)
        target = _target(request, chosen)
        return show_app(request, app, sent=request.POST, target=target, error=error, options=form)
    return redirect("processing:job", job.pk)


@login_required
@require_GET
def quote(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Return the highest price and expected time of a run on `pictures` images."""
    app = open_app(request, owner, name)
    sent = request.GET.get("pictures", "")
    number = min(int(sent), settings.JOB_MAX_FILES) if sent.isdecimal() and len(sent) < 9 else 1
    estimate = estimates.quote(version=app.version, queue=queue_of(app.version), pictures=max(1, number))
    return render(request, "processing/quote.html", {"quote": estimate})


@login_required
@require_http_methods(["GET", "POST"])
def run_selection(request: SignedInRequest) -> HttpResponse:
    """Store a selection of the drive (`file`, `folder`: ids) and show the apps to run on it."""
    sent = request.POST if request.method == "POST" else request.GET
    chosen = session_selection.read(
        owner=request.user, files=sent.getlist("file"), folders=sent.getlist("folder")
    )
    if chosen is not None:
        key = session_selection.keep(request.session, chosen)
        return redirect(f"{reverse('processing:run-selection')}?{urlencode({'selection': key})}")
    key = request.GET.get("selection", "")
    if not key:
        raise Invalid("Nothing is selected. Select images or folders in your drive first.")
    chosen = session_selection.recall(request.session, owner=request.user, key=key)
    models = with_covers(market.list_runnable_models(user=request.user), user=request.user)
    pipelines = with_mosaics(list_pipelines(owner=request.user))
    context = {
        "chosen": picture_choices.selection_text(files=len(chosen.files), folders=len(chosen.folders)),
        "chosen_files": chosen.files[: picture_choices.PICTURES_SHOWN],
        "listings": market.list_apps(user=request.user),
        "models": models[:MODELS_SHOWN],
        "pipelines": pipelines.order_by("-updated_at")[:PIPELINES_SHOWN],
        "query": urlencode({"selection": key}),
    }
    return render(request, "processing/run_selection.html", context)


def _submit(request: SignedInRequest, app: App, form: RunForm, chosen: Selection) -> Job:
    params = read_params(app.schema, request.POST)
    terms = form.read_terms(request.user)
    rows = (
        parameter_table.read_cells(request.POST)
        if parameter_table.is_table(request)
        else form.read_table(app.schema)
    )
    if earlier := _earlier(request):
        terms = replace(terms, again_of=earlier.job, skipped=earlier.skipped)
        rows = rows or list(earlier.rows)
    ids = [row.pk for row in (*chosen.files, *chosen.folders)]
    table = [(row.picture, dict(row.params)) for row in rows]
    return services.submit_job(
        owner=request.user,
        version=app.version,
        params=params,
        selection=chosen,
        table=rows,
        only_table=bool(rows) and "opt-only_table" in request.POST,
        terms=terms,
        idempotency_key=_idempotency_key(request, app.version.pk, params, ids, table, terms.key()),
    )


def _earlier(request: SignedInRequest) -> services.Earlier | None:
    """Return the earlier job with the images to run on again, or None."""
    key = request.POST.get("selection", "")
    if request.POST.get("over") != "selection" or not key.startswith(session_selection.OF_JOB):
        return None
    return services.earlier_pictures(owner=request.user, job_id=key.removeprefix(session_selection.OF_JOB))


def _idempotency_key(request: HttpRequest, *parts: object) -> str:
    """Return an idempotency key of the page and its input. Changed input makes a new job."""
    page = request.POST.get("request_key") or uuid.uuid4().hex
    text = json.dumps([page, *parts], sort_keys=True, default=str)
    return f"page:{hashlib.sha256(text.encode()).hexdigest()}"


def _target(request: HttpRequest, chosen: Selection | None) -> PageInputs:
    over, key = request.POST.get("over", ""), request.POST.get("selection", "")
    if chosen is None:
        return PageInputs()
    picture = chosen.files[0] if chosen.files and not over else None
    return PageInputs(picture, chosen, key, over)
