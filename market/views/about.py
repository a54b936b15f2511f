"""What a seller says of a model, and how it will read."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.requests import SignedInRequest
from market import conversions, describing
from market.forms import AboutForm
from market.models import Listing


@login_required
@require_http_methods(["GET", "POST"])
def about(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask the owner for the texts of a model; `preview` shows how they read and keeps nothing."""
    listing = conversions.get_model(owner=request.user, name=name)
    if request.method == "GET":
        texts = {field: getattr(listing, field) for field in AboutForm.base_fields}
        return _show(request, listing, AboutForm(initial=texts))
    form = AboutForm(request.POST)
    if not form.is_valid():
        return _show(request, listing, form, status=422)
    if "preview" in request.POST:
        return _show(request, listing, form, is_preview=True)
    describing.describe_model(owner=request.user, name=name, **form.cleaned_data)
    messages.success(request, _("What is said of the model has been kept."))
    page = reverse("processing:app", args=[listing.owner.handle, listing.name])
    return redirect(f"{page}?tab=about")


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
