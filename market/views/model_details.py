"""Pages for the owner of a model: edit its texts and choose its sample images."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.models import User
from accounts.requests import SignedInRequest
from drive.files.listing import with_thumbnails
from drive.models import File
from ipau.common.errors import DomainError
from ipau.common.ids import as_uuid
from market.forms import AboutForm
from market.models import MOST_CHOSEN, Listing
from market.weights import services
from market.weights.samples import choose_samples, list_chosen

PICTURES_OFFERED = 24


@login_required
@require_http_methods(["GET", "POST"])
def about(request: SignedInRequest, name: str) -> HttpResponse:
    """Show and save the texts of a model. `preview` renders them without saving."""
    listing = services.get_model(owner=request.user, name=name)
    if request.method == "GET":
        texts = {field: getattr(listing, field) for field in AboutForm.base_fields}
        return _show(request, listing, AboutForm(initial=texts))
    form = AboutForm(request.POST)
    if not form.is_valid():
        return _show(request, listing, form, status=422)
    if "preview" in request.POST:
        return _show(request, listing, form, is_preview=True)
    services.describe_model(owner=request.user, name=name, **form.cleaned_data)
    messages.success(request, _("Model description saved."))
    return redirect(_page_of(listing))


@login_required
@require_http_methods(["GET", "POST"])
def samples(request: SignedInRequest, name: str) -> HttpResponse:
    """Show and save the sample images of a model. `search` does not save."""
    listing = services.get_model(owner=request.user, name=name)
    if request.method == "GET" or "search" in request.POST:
        return _show_choice(request, listing)
    try:
        choose_samples(
            owner=request.user,
            name=name,
            kept=request.POST.getlist("kept"),
            files=request.POST.getlist("file"),
        )
    except DomainError as error:
        return _show_choice(request, listing, error=error)
    messages.success(request, _("Samples saved. A worker runs the model on the new ones."))
    return redirect(_page_of(listing))


def _show(
    request: SignedInRequest,
    listing: Listing,
    form: AboutForm,
    *,
    is_preview: bool = False,
    status: int = 200,
) -> HttpResponse:
    context = {"listing": listing, "form": form, "is_preview": is_preview}
    return render(request, "market/model_about.html", context, status=status)


def _show_choice(
    request: SignedInRequest, listing: Listing, *, error: DomainError | None = None
) -> HttpResponse:
    chosen = list(list_chosen(owner=request.user, name=listing.name))
    sent = request.POST
    context = {
        "listing": listing,
        "chosen": chosen,
        "kept": set(sent.getlist("kept")) if request.method == "POST" else {str(one.pk) for one in chosen},
        "pictures": _pictures(request.user, text=sent.get("q", "").strip(), first=sent.getlist("file")),
        "picked": set(sent.getlist("file")),
        "searched": sent.get("q", ""),
        "most": MOST_CHOSEN,
        "error": error,
    }
    return render(request, "market/model_samples.html", context, status=error.status if error else 200)


def _pictures(owner: User, *, text: str, first: list[str]) -> list[File]:
    """Return images to choose from: `first`, then the newest with `text` in the name."""
    rows = with_thumbnails(File.objects.visible_to(owner).runnable())
    known = {str(file.pk): file for file in rows.filter(pk__in=[as_uuid(i) for i in first])}
    for file in rows.filter(name__icontains=text).order_by("-id")[:PICTURES_OFFERED]:
        known.setdefault(str(file.pk), file)
    return list(known.values())


def _page_of(listing: Listing) -> str:
    page = reverse("processing:app", args=[listing.owner.handle, listing.name])
    return f"{page}?tab=about"
