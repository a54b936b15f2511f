"""Cluster page, draining and resuming of workers, and the Prometheus endpoint."""

import hmac
import ipaddress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from prometheus_client import CONTENT_TYPE_LATEST

from accounts.requests import SignedInRequest
from processing.reporting import cluster_status, metrics
from processing.reporting.cluster_status import Minute


@login_required
@require_GET
def cluster_page(request: SignedInRequest) -> HttpResponse:
    """Show workers, queues and utilization. htmx gets only the changing part."""
    workers = cluster_status.workers_now()
    alive = [seen for seen in workers if seen.alive]
    minutes, now = cluster_status.utilization(), timezone.now()
    context: dict[str, Any] = {
        "workers": workers,
        "alive": len(alive),
        "slots": sum(seen.worker.slots for seen in alive),
        "busy": sum(seen.busy for seen in alive),
        "pace": sum(seen.pace for seen in alive),
        "queues": cluster_status.queues_now(),
        "bars": [_bar(minute, now) for minute in minutes],
        "mean": round(100 * sum(m.share for m in minutes) / len(minutes)) if minutes else None,
        "operator": cluster_status.is_operator(request.user),
    }
    template = "processing/cluster_live.html" if request.htmx else "processing/cluster.html"
    return render(request, template, context)


@login_required
@require_POST
def drain(request: SignedInRequest, name: str) -> HttpResponse:
    """Drain a worker: it takes no new work."""
    cluster_status.drain_worker(operator=request.user, name=name)
    messages.success(
        request,
        _("%(name)s is draining: it finishes its current work and takes no new work.") % {"name": name},
    )
    return redirect("processing:cluster")


@login_required
@require_POST
def resume(request: SignedInRequest, name: str) -> HttpResponse:
    """Resume a drained worker."""
    cluster_status.resume_worker(operator=request.user, name=name)
    messages.success(request, _("%(name)s resumes within a few seconds.") % {"name": name})
    return redirect("processing:cluster")


@require_GET
def metrics_page(request: HttpRequest) -> HttpResponse:
    """Return the metrics. Needs the key in the settings; without one, only this machine may scrape."""
    if not _may_scrape(request):
        raise Http404
    return HttpResponse(metrics.collect(), content_type=CONTENT_TYPE_LATEST)


def _bar(minute: Minute, now: datetime) -> dict[str, Any]:
    """Return a minute as a bar of the chart, which is 60 wide and 100 high, with now at the right."""
    minutes_ago = int((now - minute.at).total_seconds() // 60)
    return {"at": minute.at, "percent": minute.percent, "x": 60 - minutes_ago - 1, "y": 100 - minute.percent}


def _may_scrape(request: HttpRequest) -> bool:
    if settings.METRICS_KEY:
        sent = request.headers.get("Authorization", "")
        return hmac.compare_digest(sent.encode(), f"Bearer {settings.METRICS_KEY}".encode())
    # Behind a proxy, every request has the address of the proxy.
    if "X-Forwarded-For" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        # A Unix socket: a proxy on this machine connects for any client.
        return False
