"""Settings page of webhooks: signing secret, test delivery and list of deliveries."""

import json
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.requests import SignedInRequest
from ipau.common.errors import Conflict, Invalid, RateLimited
from ipau.common.paging import paginate
from processing.models import Delivery, DeliveryState
from processing.notifications import services
from processing.notifications.record import Event
from processing.notifications.url_policy import LONGEST

DELIVERIES_A_PAGE = 30


class PingForm(forms.Form):
    """The address of a test delivery."""

    url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=LONGEST,
        widget=forms.URLInput(attrs={"placeholder": "https://", "autocomplete": "url"}),
    )


@login_required
@never_cache
@require_GET
def webhooks_page(request: SignedInRequest) -> HttpResponse:
    """List the deliveries, newest first, filtered by `state`."""
    return _show(request)


@login_required
@never_cache
@require_POST
def show_secret(request: SignedInRequest) -> HttpResponse:
    """Show the secret. htmx gets only the part of the page with the secret."""
    return _show(request, secret=services.get_secret(owner=request.user))


@login_required
@never_cache
@require_POST
def rotate_secret(request: SignedInRequest) -> HttpResponse:
    """Create a new secret and show it."""
    return _show(request, secret=services.rotate_secret(owner=request.user), rotated=True)


@login_required
@require_POST
def send_ping(request: SignedInRequest) -> HttpResponse:
    """Send a test delivery and show its page."""
    form = PingForm(request.POST)
    if form.is_valid():
        try:
            ping = services.send_ping(owner=request.user, url=form.cleaned_data["url"])
        except (Invalid, RateLimited) as error:
            form.add_error("url", error.message)
        else:
            return redirect("processing:delivery", ping.pk)
    return _show(request, form=form, status=422)


@login_required
@require_GET
def delivery_page(request: SignedInRequest, delivery_id: UUID) -> HttpResponse:
    """Show one delivery. htmx polls while an attempt is expected soon."""
    delivery = services.get_delivery(owner=request.user, delivery_id=delivery_id)
    template = "processing/delivery.html#delivery" if request.htmx else "processing/delivery.html"
    return render(request, template, _describe(delivery))


@login_required
@require_POST
def redeliver(request: SignedInRequest, delivery_id: UUID) -> HttpResponse:
    """Send a delivery again."""
    try:
        services.redeliver(owner=request.user, delivery_id=delivery_id)
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("The delivery is being sent again."))
    return redirect("processing:delivery", delivery_id)


def _show(
    request: SignedInRequest,
    *,
    secret: str = "",
    rotated: bool = False,
    form: PingForm | None = None,
    status: int = 200,
) -> HttpResponse:
    shown = {"secret": secret, "rotated": rotated}
    if request.htmx and secret:
        return render(request, "processing/webhooks.html#secret", shown)
    state = request.GET.get("state", "")
    state = state if state in DeliveryState.values else ""
    rows = services.list_deliveries(owner=request.user, state=state)
    context = {
        **shown,
        "form": form or PingForm(),
        "page": paginate(rows, order=("-id",), size=DELIVERIES_A_PAGE, cursor=request.GET.get("cursor")),
        "state": state,
        "states": [("", _("All")), *DeliveryState.choices],
        "query": urlencode({"state": state}) if state else "",
    }
    return render(request, "processing/webhooks.html", context, status=status)


def _describe(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery": delivery,
        "event": Event(delivery.event).label if delivery.event in Event.values else delivery.event,
        "body": json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False) if delivery.body else "",
        "attempts": [{**line, "at": parse_datetime(line["at"])} for line in reversed(delivery.log)],
        # Poll only while the next attempt is near, not during pauses of minutes or hours.
        "live": delivery.state == DeliveryState.WAITING and delivery.attempts < 3,
    }
