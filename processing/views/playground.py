"""Playground of an app: page, live previews, image picker and upload."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from drive.files import services as drive
from drive.uploads import services as uploads_services
from ipau.common.api.views import domain_problem
from ipau.common.errors import DomainError, Invalid, NotFound
from processing import services
from processing.forms.params_form import read_params
from processing.playground import picture_choices, sample_pictures, session_selection
from processing.previews import rate_limit
from processing.previews.channel import Answer
from processing.views.app_page import App, PageInputs, open_app, person_of, show_app


@require_GET
def app_page(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Show an app with its form, with an image of the account or a sample."""
    app = open_app(request, owner, name)
    person = person_of(request)
    target = _read_target(request, person) if person else PageInputs()
    return show_app(request, app, sent=request.GET, target=target)


@require_POST
def preview(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Return the bytes of a preview, its text (`output=text`) or data (`output=data`), or a problem.

    With `page=1` (no JavaScript), return the whole page with the preview in it.
    """
    app = open_app(request, owner, name)
    try:
        rate_limit.count_preview(request)
        answer = _preview(request, app)
    except DomainError as error:
        if "page" in request.POST:
            return show_app(request, app, sent=request.POST, target=_posted_target(request), error=error)
        return domain_problem(error, request.path).response()
    if "page" in request.POST:
        return show_app(request, app, sent=request.POST, target=_posted_target(request), answer=answer)
    if request.POST.get("output") == "data" and answer.data is not None:
        return JsonResponse(answer.data, safe=False)
    return _as_text(request, answer) if request.POST.get("output") else as_picture(answer)


def as_picture(answer: Answer) -> HttpResponse:
    """Return the image of a preview as a response."""
    response = HttpResponse(answer.body, content_type=answer.content_type)
    response["X-Preview-Size"] = f"{answer.width}x{answer.height}"
    response["X-Preview-Texts"] = ",".join(answer.texts)
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_GET
def pictures(request: SignedInRequest) -> HttpResponse:
    """Return the images of the picker that match a search."""
    text = request.GET.get("q", "").strip()
    files = picture_choices.pictures_of(request.user, text=text)
    return render(request, "processing/pictures.html", {"pictures": files, "picture": None, "searched": text})


@login_required
@require_POST
def upload(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Upload images to the drive and return the picker. Without htmx, redirect to the page of the app."""
    app = open_app(request, owner, name)
    sent = request.FILES.getlist("pictures")
    if not sent:
        raise Invalid("No image was sent. Choose an image to upload.", code="no_files")
    stored = [_store(request.user, part) for part in sent]
    if not request.htmx:
        page = reverse("processing:app", args=[app.listing.owner.handle, app.listing.name])
        return HttpResponse(status=303, headers={"Location": f"{page}?file={stored[0].pk}"})
    files = picture_choices.pictures_of(request.user, first=stored)
    return render(request, "processing/pictures.html", {"pictures": files, "picture": stored[0]})


def _read_target(request: HttpRequest, person: User) -> PageInputs:
    key = request.GET.get("selection", "")
    files, folders = request.GET.getlist("file"), request.GET.getlist("folder")
    if key:
        return PageInputs(
            selection=session_selection.recall(request.session, owner=person, key=key),
            selection_key=key,
            over="selection",
        )
    chosen = session_selection.read(owner=person, files=files, folders=folders)
    if chosen is None:
        return PageInputs()
    if len(chosen) > 1:
        key = session_selection.keep(request.session, chosen)
        return PageInputs(selection=chosen, selection_key=key, over="selection")
    if chosen.folders:
        return PageInputs(selection=chosen, over=f"folder:{chosen.folders[0].pk}")
    return PageInputs(picture=chosen.files[0])


def _preview(request: HttpRequest, app: App) -> Answer:
    person = person_of(request)
    params = read_params(app.schema, request.POST)
    file_id = request.POST.get("file", "")
    if file_id and person:
        file = drive.get_file(owner=person, file_id=file_id)
        return services.preview_file(owner=person, version=app.version, params=params, file=file)
    if file_id:
        raise NotFound("This file does not exist.")
    # The site chooses these bytes, so visitors without an account may use them.
    picture = sample_pictures.get_picture(user=person, sample_id=request.POST.get("sample", ""))
    if picture is not None:
        return services.preview_blob(owner=person, version=app.version, params=params, blob_id=picture.sha256)
    return services.preview_bytes(
        owner=person, version=app.version, params=params, data=sample_pictures.data()
    )


def _posted_target(request: HttpRequest) -> PageInputs:
    """Return the input of a page without JavaScript."""
    person = person_of(request)
    if person is None:
        return PageInputs()
    file_id, key = request.POST.get("file", ""), request.POST.get("selection", "")
    picture = drive.get_file(owner=person, file_id=file_id) if file_id else None
    selection = session_selection.recall(request.session, owner=person, key=key) if key else None
    return PageInputs(picture, selection, key, request.POST.get("over", ""))


def _as_text(request: HttpRequest, answer: Answer) -> HttpResponse:
    text = answer.texts.get(request.POST["output"])
    if text is None:
        error = Invalid("This app has no output with this name.", code="no_such_output")
        return domain_problem(error, request.path).response()
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


def _store(person: User, part: Any) -> Any:
    return uploads_services.upload_file(
        owner=person, folder=None, name=part.name, content=part.file, size=part.size
    )
