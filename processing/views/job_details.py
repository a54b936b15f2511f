"""Detail pages of a job: items as a table and as CSV, timings, and the log."""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts.requests import SignedInRequest
from ipau.common.paging import paginate
from processing import services
from processing.job_queue.job_log import log_of
from processing.models import Item, Job, State
from processing.reporting import stage_timings
from processing.reporting.stage_timings import STAGE_NAMES, Point, StageTime, Times

ITEMS_A_PAGE = 100
CSV_ROWS_A_QUERY = 1000
# Inner size of the scatter plot, in SVG units.
WIDE, HIGH = 560, 220
_COLUMNS = (
    "position",
    "name",
    "folder",
    "status",
    "reused",
    "bytes",
    "settings",
    "attempts",
    "worker",
    "device",
    *(f"{stage}_ms" for stage in STAGE_NAMES),
    "started_at",
    "completed_at",
    "error_code",
    "error",
)


@login_required
@require_GET
def job_items(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """List the items of a job with worker and stage times, filtered by `state`."""
    job = services.get_job(owner=request.user, job_id=job_id)
    state = request.GET.get("state", "")
    rows = Item.objects.filter(job=job).select_related("blob")
    if state in State.values:
        rows = rows.filter(state=state)
    page = paginate(rows, order=("position",), size=ITEMS_A_PAGE, cursor=request.GET.get("cursor"))
    context = {
        **_common(job, "items"),
        "page": page,
        "state": state,
        "states": [("", _("All")), *((s.value, str(s.label)) for s in State)],
        "stages": STAGE_NAMES,
        "lines": [(item, _stages_of(item)) for item in page.rows],
        "query": urlencode({"state": state}) if state else "",
    }
    return render(request, "processing/job_items.html", context)


@login_required
@require_GET
def job_csv(request: SignedInRequest, job_id: UUID) -> StreamingHttpResponse:
    """Return all items of a job as CSV, streamed in pages to bound the memory."""
    job = services.get_job(owner=request.user, job_id=job_id)
    answer = StreamingHttpResponse(_lines(job), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.csv"'
    return answer


class _Echo:
    """A file for the CSV writer that returns each written line."""

    def write(self, line: str) -> str:
        return line


@login_required
@require_GET
def job_times(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Show the timings of a job by stage and by file size."""
    job = services.get_job(owner=request.user, job_id=job_id)
    times = stage_timings.times_of(job)
    context = {
        **_common(job, "times"),
        "times": times,
        "bars": _bars(times.stages),
        "wait": times.wait,
        "plot": _plot(times),
        "bins": stage_timings.bins_of(times.points),
    }
    return render(request, "processing/job_times.html", context)


@login_required
@require_GET
def job_log(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Show the log of a job."""
    job = services.get_job(owner=request.user, job_id=job_id)
    context = {**_common(job, "log"), "lines": log_of(job)}
    return render(request, "processing/job_log.html", context)


def _stages_of(item: Item) -> list[str]:
    return [f"{item.timings[stage]:.1f}" if stage in item.timings else "" for stage in STAGE_NAMES]


def _lines(job: Job) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(_COLUMNS)
    rows = Item.objects.filter(job=job).select_related("blob").order_by("position")
    last = -1
    # One query per page: the web server may continue a response in another thread and connection.
    while page := list(rows.filter(position__gt=last)[:CSV_ROWS_A_QUERY]):
        yield "".join(writer.writerow([_plain(value) for value in _cells(item)]) for item in page)
        last = page[-1].position


def _cells(item: Item) -> Sequence[object]:
    return (
        item.position,
        item.name,
        item.folder_path,
        item.state,
        "yes" if item.reused else "no",
        item.blob.size,
        json.dumps(item.input, ensure_ascii=False) if item.input else "",
        item.attempts,
        item.worker,
        item.device,
        *(item.timings.get(stage, "") for stage in STAGE_NAMES),
        item.started_at.isoformat() if item.started_at else "",
        item.completed_at.isoformat() if item.completed_at else "",
        item.error_code,
        item.error,
    )


def _plain(value: object) -> object:
    """Escape text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _bars(stages: Sequence[StageTime]) -> list[dict[str, Any]]:
    """Return the segments of a bar of 1,000 units, one for each stage, with the values of its row."""
    bars, x = [], 0.0
    for number, stage in enumerate(stages):
        width = 1000 * stage.share
        bars.append(
            {
                "name": STAGE_NAMES[stage.stage],
                "time": stage,
                "number": number,
                "x": f"{x:.2f}",
                "width": f"{width:.2f}",
                "percent": round(100 * stage.share),
            }
        )
        x += width
    return bars


def _plot(times: Times) -> dict[str, Any] | None:
    """Return the points of the scatter plot and the ends of its axes, or None without points."""
    if not times.points:
        return None
    widest = max(point.size for point in times.points) or 1
    highest = max(point.spent for point in times.points) or 1.0

    def place(point: Point) -> dict[str, str]:
        return {
            "x": f"{WIDE * point.size / widest:.1f}",
            "y": f"{HIGH - HIGH * point.spent / highest:.1f}",
        }

    return {
        "points": [place(p) for p in times.points],
        "bytes": widest,
        "spent": highest,
        "wide": WIDE,
        "high": HIGH,
    }


def _common(job: Job, tab: str) -> dict[str, Any]:
    return {"job": job, "listing": job.version.listing, "tab": tab}
