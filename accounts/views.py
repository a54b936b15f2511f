"""Settings pages: profile and API keys."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from accounts.forms import ApiKeyForm, ProfileForm, add_domain_error
from accounts.models import ApiKey, User
from accounts.requests import SignedInRequest
from accounts.services import NewKey, create_api_key, revoke_api_key, update_profile
from ipau.common.errors import DomainError
from ipau.common.paging import paginate

KEYS_A_PAGE = 50


@login_required
@require_http_methods(["GET", "POST"])
def settings_page(request: SignedInRequest) -> HttpResponse:
    """Show and change the profile."""
    user = request.user
    form = ProfileForm(request.POST or None, initial={"name": user.name, "handle": user.handle})
    saved = request.method == "POST" and _save_profile(form, user)
    if saved and not request.htmx:
        messages.success(request, _("Profile saved."))
        return redirect("accounts:settings")
    if saved:
        # Show the stored values: the handle may have been entered in uppercase.
        form = ProfileForm(initial={"name": user.name, "handle": user.handle})
    response = render(request, _page_or_part(request, "accounts/settings.html", "profile"), {"form": form})
    if saved:
        _toast(response, _("Profile saved."))
    return response


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def keys_page(request: SignedInRequest) -> HttpResponse:
    """List and create API keys.

    The response to a POST does not redirect, because it is the only page that shows the secret.
    """
    form = ApiKeyForm(request.POST if request.method == "POST" else None)
    new_key = _create_key(form, request.user) if request.method == "POST" else None
    if new_key:
        form = ApiKeyForm()
    rows = ApiKey.objects.filter(user=request.user)
    context = {
        "form": form,
        "new_key": new_key,
        "page": paginate(rows, order=("-id",), size=KEYS_A_PAGE, cursor=request.GET.get("cursor")),
    }
    return render(request, _page_or_part(request, "accounts/keys.html", "keys"), context)


@login_required
@require_POST
def revoke_key(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    """Revoke an API key."""
    key = revoke_api_key(user=request.user, key_id=key_id)
    text = _("API key “%(name)s” revoked.") % {"name": key.name}
    if not request.htmx:
        messages.success(request, text)
        return redirect("accounts:keys")
    return _toast(render(request, "accounts/key_row.html", {"key": key}), text)


def _save_profile(form: ProfileForm, user: User) -> bool:
    if not form.is_valid():
        return False
    try:
        update_profile(user=user, **form.cleaned_data)
    except DomainError as error:
        add_domain_error(form, error)
        return False
    return True


def _create_key(form: ApiKeyForm, user: User) -> NewKey | None:
    if not form.is_valid():
        return None
    data = form.cleaned_data
    try:
        return create_api_key(
            user=user, name=data["name"], scopes=data["scopes"], expires_at=form.expires_at()
        )
    except DomainError as error:
        add_domain_error(form, error)
        return None


def _page_or_part(request: SignedInRequest, template: str, part: str) -> str:
    """Return the name of the template partial for htmx requests, else of the whole template."""
    return f"{template}#{part}" if request.htmx else template


def _toast(response: HttpResponse, text: str) -> HttpResponse:
    return trigger_client_event(response, "toast", {"text": text, "level": "success"})
