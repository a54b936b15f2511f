"""Pages of models: list, upload, conversion report, share, delete."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from accounts.models import User
from accounts.requests import SignedInRequest
from drive.downloads.responses import serve
from drive.files import services as drive
from drive.models import File, FileKind, FileState
from ipau.common.errors import Conflict, DomainError, Invalid, RateLimited
from ipau.common.paging import paginate
from market.covers import with_covers
from market.forms import ModelForm
from market.listings import services
from market.models import Conversion, Visibility
from market.sandbox.budgets import budget_of
from market.weights import confirm_layout, conversions
from market.weights import services as weights_services
from market.weights.report import describe_report
from market.weights.speeds import with_job_speeds

MODELS_A_PAGE = 24
CONVERSIONS_SHOWN = 10
WEIGHTS_OFFERED = 100


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """List the user's models and conversions, and the models shared by others."""
    shared = services.list_shared_models()
    context = {}
    if isinstance(request.user, User):
        shared = shared.exclude(owner=request.user)
        own = with_job_speeds(
            weights_services.with_unconfirmed(weights_services.list_models(owner=request.user))
        )
        context = {
            "own": own.order_by("-id")[: weights_services.MOST_MODELS],
            "conversions": conversions.list_conversions(owner=request.user).order_by("-id")[
                :CONVERSIONS_SHOWN
            ],
        }
    page = paginate(with_covers(shared), order=("-id",), size=MODELS_A_PAGE, cursor=request.GET.get("cursor"))
    return render(request, "market/models.html", {**context, "page": page})


@login_required
@require_http_methods(["GET", "POST"])
def new_page(request: SignedInRequest) -> HttpResponse:
    """Show the upload form and request a conversion. The query parameter `file` preselects weights."""
    query = request.POST if request.method == "POST" else request.GET
    offered = _weights_of(request.user, first=query.get("file", ""))
    if request.method == "GET":
        initial = {"file": request.GET.get("file", ""), "name": request.GET.get("name", "")}
        return _show_form(request, ModelForm(files=offered, initial=initial), offered)
    form = ModelForm(request.POST, request.FILES, files=offered)
    is_valid, status = form.is_valid(), 422
    try:
        sent = _store_upload(request.user, form)
        if is_valid:
            return redirect("models:conversion", _request_conversion(request.user, form, sent).pk)
    except DomainError as error:
        form.show_domain_error(error)
        status = error.status if isinstance(error, RateLimited) else status
    return _show_form(request, form, offered, status=status)


@login_required
@require_GET
def conversion_page(request: SignedInRequest, conversion_id: UUID) -> HttpResponse:
    """Show the state of a conversion, then its report."""
    return _show_conversion(request, conversion_id, "market/conversion.html")


@login_required
@require_GET
def conversion_state(request: SignedInRequest, conversion_id: UUID) -> HttpResponse:
    """Return the part of a conversion's page that htmx polls."""
    return _show_conversion(request, conversion_id, "market/conversion_state.html")


@require_safe
def sample(request: HttpRequest, sample_id: UUID, which: str) -> HttpResponseBase:
    """Return a sample image of a model: `before` (input) or `after` (result)."""
    user = request.user if isinstance(request.user, User) else None
    blob = services.get_sample_picture(user=user, sample_id=sample_id, which=which)
    return serve(
        request, blob, name=f"{which}.webp", content_type=blob.content_type, stream=True, immutable=True
    )


@login_required
@require_POST
def retry(request: SignedInRequest, conversion_id: UUID) -> HttpResponse:
    """Convert refused weights again."""
    try:
        conversions.retry_conversion(owner=request.user, conversion_id=conversion_id)
    except (Invalid, RateLimited) as error:
        messages.error(request, error.message)
    return redirect("models:conversion", conversion_id)


@login_required
@require_POST
def confirm(request: SignedInRequest, conversion_id: UUID) -> HttpResponse:
    """Confirm the output layout of an ONNX graph. `choice` is `task:layout`."""
    task, _colon, layout = request.POST.get("choice", "").partition(":")
    try:
        conversion = confirm_layout.confirm_conversion(
            owner=request.user, conversion_id=conversion_id, task=task, layout=layout
        )
    except (Conflict, Invalid, RateLimited) as error:
        messages.error(request, error.message)
    else:
        if not conversion.is_open:
            messages.success(request, _("Confirmed. You can share the model now."))
    return redirect("models:conversion", conversion_id)


@login_required
@require_POST
def share(request: SignedInRequest, name: str) -> HttpResponse:
    """Make a model public (`visibility=public`) or private."""
    wanted = request.POST.get("visibility", "")
    if wanted not in Visibility.values:
        raise Invalid(_("Choose who may see the model."), fields={"visibility": wanted})
    try:
        listing = weights_services.share_model(owner=request.user, name=name, visibility=wanted)
    except Conflict as error:
        messages.error(request, error.message)
        return redirect("models:list")
    text = _("“%(title)s” is shared.") if wanted == Visibility.PUBLIC else _("“%(title)s” is private.")
    messages.success(request, text % {"title": listing.title})
    return redirect("models:list")


@login_required
@require_POST
def delete(request: SignedInRequest, name: str) -> HttpResponse:
    """Delete a model. Its jobs and their results stay."""
    weights_services.delete_model(owner=request.user, name=name)
    messages.success(request, _("Model deleted. Its jobs and their results stay."))
    here = reverse("models:list")
    return HttpResponseClientRedirect(here) if request.htmx else redirect(here)


def _store_upload(owner: User, form: ModelForm) -> File | None:
    """Store uploaded weights in the drive, even if the form is invalid: they are sent only once."""
    sent = form.cleaned_data.get("upload")
    if sent is None:
        return None
    file = conversions.upload_weights(owner=owner, name=sent.name, content=sent.file, size=sent.size)
    form.select_file(file)
    return file


def _request_conversion(owner: User, form: ModelForm, sent: File | None) -> Conversion:
    chosen = form.cleaned_data
    file = sent or drive.get_file(owner=owner, file_id=chosen["file"])
    options = {name: chosen[name] for name in ("name", "title", "family", "config", "publish")}
    return conversions.request_conversion(owner=owner, file=file, **options)


def _weights_of(owner: User, first: str = "") -> list[File]:
    """Return the newest weights of the drive, and the file with the id `first`."""
    rows = File.objects.visible_to(owner).live().filter(kind=FileKind.WEIGHTS)
    rows = rows.exclude(state=FileState.REFUSED)
    found = list(rows.order_by("-id")[:WEIGHTS_OFFERED])
    if first and first not in {str(file.pk) for file in found}:
        file = drive.get_file(owner=owner, file_id=first)
        found += [file] if file.kind == FileKind.WEIGHTS else []
    return found


def _show_form(
    request: SignedInRequest, form: ModelForm, offered: list[File], *, status: int = 200
) -> HttpResponse:
    context = {"form": form, "offered": offered, "budget": budget_of(request.user.pk)}
    return render(request, "market/model_new.html", context, status=status)


def _show_conversion(request: SignedInRequest, conversion_id: UUID, template: str) -> HttpResponse:
    conversion = conversions.get_conversion(owner=request.user, conversion_id=conversion_id)
    version = conversion.version
    context = {
        "conversion": conversion,
        "report": describe_report(conversion.report, version.weights if version else None),
    }
    listing = version.listing if version else None
    is_there = listing is not None and listing.archived_at is None
    return render(request, template, {**context, "listing": listing, "is_there": is_there})
