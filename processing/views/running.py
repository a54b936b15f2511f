"""Running an app over many pictures: choosing the app for a selection, and submitting the job."""

import hashlib
import json
import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from accounts.requests import SignedInRequest
from drive import services as drive
from drive.services import Selection
from ipau.common.errors import Conflict, Invalid
from market import services as market
from processing import choices, samples, selections, services
from processing.forms import read_params
from processing.views.app import App, Target, open_app, show_app


@login_required
@require_POST
def run(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Submit a job and go to its page. What is wrong is said on the app's page.

    The page's `request_key` makes a double click, or the same page sent again, the same job.
    """
    app = open_app(request, owner, name)
    params = read_params(app.schema, request.POST)
    chosen: Selection | None = None
    try:
        chosen = _chosen(request)
        job = services.submit_job(
            owner=request.user,
            version=app.version,
            params=params,
            selection=chosen,
            idempotency_key=_idempotency_key(request, app, params, chosen),
        )
    except (Invalid, Conflict) as error:
        target = _target(request, chosen)
        return show_app(request, app, sent=request.POST, target=target, error=error)
    return redirect("processing:job", job.pk)


def _chosen(request: SignedInRequest) -> Selection:
    """Return what to run over. Raises NotFound, and Invalid where nothing was chosen."""
    over, sent = request.POST.get("over", ""), request.POST
    if over == "selection":
        return selections.recall(request.session, owner=request.user, key=sent.get("selection", ""))
    if over.startswith("folder:"):
        return drive.select(owner=request.user, folder_ids=[over.removeprefix("folder:")])
    chosen = selections.read(owner=request.user, files=sent.getlist("file"), folders=sent.getlist("folder"))
    if chosen is not None:
        return chosen
    if "sample" in sent:
        return Selection(folders=(), files=(samples.add_to_drive(request.user),))
    raise Invalid("Choose a picture first, or upload one.", code="no_files")


def _idempotency_key(request: HttpRequest, app: App, params: dict[str, Any], chosen: Selection) -> str:
    """Name this request. Going back, changing a slider and running again is another one."""
    page = request.POST.get("request_key") or uuid.uuid4().hex
    ids = [row.pk for row in (*chosen.files, *chosen.folders)]
    text = json.dumps([page, app.version.pk, params, ids], sort_keys=True, default=str)
    return f"page:{hashlib.sha256(text.encode()).hexdigest()}"


def _target(request: HttpRequest, chosen: Selection | None) -> Target:
    over, key = request.POST.get("over", ""), request.POST.get("selection", "")
    if chosen is None:
        return Target()
    picture = chosen.files[0] if chosen.files and not over else None
    return Target(picture, chosen, key, over)


@login_required
@require_http_methods(["GET", "POST"])
def run_selection(request: SignedInRequest) -> HttpResponse:
    """Take a selection of the drive (`file`, `folder`: ids) and let the person choose an app for it."""
    sent = request.POST if request.method == "POST" else request.GET
    chosen = selections.read(owner=request.user, files=sent.getlist("file"), folders=sent.getlist("folder"))
    if chosen is not None:
        key = selections.keep(request.session, chosen)
        return redirect(f"{reverse('processing:run-selection')}?{urlencode({'selection': key})}")
    key = request.GET.get("selection", "")
    if not key:
        raise Invalid("Nothing is selected. Choose pictures or folders in the drive first.")
    chosen = selections.recall(request.session, owner=request.user, key=key)
    context = {
        "chosen": choices.selection_text(files=len(chosen.files), folders=len(chosen.folders)),
        "chosen_files": chosen.files[: choices.PICTURES_SHOWN],
        "listings": market.list_apps(user=request.user),
        "query": urlencode({"selection": key}),
    }
    return render(request, "processing/run_selection.html", context)
