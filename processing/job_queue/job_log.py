"""Log of a job: rows of kind and details, rendered as text in the reader's language.

Lines count images instead of naming them, so a log stays short whatever the size of the job.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import models
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from processing.models import Job, JobEvent

# Different lines of one kind. Further ones are counted together in a line without details.
MAX_TALLIES = 20
MAX_LINES = 500


class Kind(models.TextChoices):
    """Kinds of events in the log of a job."""

    SUBMITTED = "submitted"
    STARTED = "started"
    REUSED = "reused"
    FAILED = "failed"
    LOST = "lost"
    DELAYED = "delayed"
    RETRIED = "retried"
    CANCELED = "canceled"
    DEADLINE = "deadline"
    FINISHED = "finished"


@dataclass(frozen=True)
class LogLine:
    """A line of the log as text."""

    at: datetime
    kind: str
    text: str


def note(job_id: UUID, kind: Kind, **details: Any) -> None:
    """Add a line. Call it in the transaction of the event."""
    JobEvent.objects.create(job_id=job_id, kind=kind, details=details)


def tally(job_id: UUID, kind: Kind, number: int, **details: Any) -> None:
    """Add `number` images to the line with these details, or create that line.

    A retry starts new lines. Call it with the job's row locked.
    """
    lines = JobEvent.objects.filter(job=job_id)
    since = lines.filter(kind=Kind.RETRIED).aggregate(last=Max("id"))["last"] or 0
    earlier = list(lines.filter(kind=kind, id__gt=since).order_by("id"))
    line = _line_of(earlier, details)
    if line is None and len(earlier) >= MAX_TALLIES:
        details = {}
        line = _line_of(earlier, details)
    if line is None:
        note(job_id, kind, **details, n=number)
        return
    line.details["n"] += number
    line.save(update_fields=["details"])


def log_of(job: Job) -> list[LogLine]:
    """Return the job's log, the oldest line first."""
    rows = JobEvent.objects.filter(job=job).order_by("id")[:MAX_LINES]
    return [LogLine(row.at, row.kind, text_of(row)) for row in rows]


def text_of(event: JobEvent) -> str:
    """Return the text of an event in the reader's language."""
    render = _TEXTS.get(event.kind)
    return render(event.details) if render else event.kind


def _submitted(details: Mapping[str, Any]) -> str:
    number, skipped = details.get("n", 0), details.get("skipped", 0)
    text = ngettext("Submitted with %(n)s image.", "Submitted with %(n)s images.", number)
    text %= {"n": intcomma(number)}
    return f"{text} {skipped_text(skipped)}" if skipped else text


def skipped_text(number: int) -> str:
    """Return a sentence about images of an earlier job that no longer exist."""
    text = ngettext(
        "%(n)s image of the earlier job no longer exists and was skipped.",
        "%(n)s images of the earlier job no longer exist and were skipped.",
        number,
    )
    return text % {"n": intcomma(number)}


def _line_of(lines: list[JobEvent], details: Mapping[str, Any]) -> JobEvent | None:
    return next((line for line in lines if {**line.details, "n": 0} == {**details, "n": 0}), None)


def _started(details: Mapping[str, Any]) -> str:
    worker = details.get("worker")
    return _("Started on %(worker)s.") % {"worker": worker} if worker else _("Started.")


def _reused(details: Mapping[str, Any]) -> str:
    return _counted(
        details,
        ngettext(
            "%(n)s earlier result was reused.",
            "%(n)s earlier results were reused.",
            details.get("n", 0),
        ),
    )


def _failed(details: Mapping[str, Any]) -> str:
    reason = details.get("reason")
    number = details.get("n", 0)
    text = _counted(details, ngettext("%(n)s image failed.", "%(n)s images failed.", number))
    return f"{text} {reason}" if reason else text


def _lost(details: Mapping[str, Any]) -> str:
    worker = details.get("worker") or _("A worker")
    text = ngettext(
        "%(worker)s was lost while it ran %(n)s image, which will be retried.",
        "%(worker)s was lost while it ran %(n)s images, which will be retried.",
        details.get("n", 0),
    )
    return text % {"worker": worker, "n": intcomma(details.get("n", 0))}


def _delayed(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "The storage did not respond for %(n)s image, which will be retried.",
        "The storage did not respond for %(n)s images, which will be retried.",
        details.get("n", 0),
    )
    return _counted(details, text)


def _retried(details: Mapping[str, Any]) -> str:
    text = ngettext("Retrying %(n)s image.", "Retrying %(n)s images.", details.get("n", 0))
    text = _counted(details, text)
    if details.get("deadline"):
        return f"{text} {_('The deadline had passed and was removed.')}"
    return text


def _canceled(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "Canceled by its owner with %(n)s image left.",
        "Canceled by its owner with %(n)s images left.",
        details.get("n", 0),
    )
    return _counted(details, text)


def _deadline(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "The deadline passed with %(n)s image left, so the job ended.",
        "The deadline passed with %(n)s images left, so the job ended.",
        details.get("n", 0),
    )
    return _counted(details, text)


def _finished(details: Mapping[str, Any]) -> str:
    numbers = {name: intcomma(details.get(name, 0)) for name in ("succeeded", "failed")}
    return _("Finished: %(succeeded)s succeeded, %(failed)s failed.") % numbers


def _counted(details: Mapping[str, Any], text: str) -> str:
    return text % {"n": intcomma(details.get("n", 0))}


_TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    Kind.SUBMITTED: _submitted,
    Kind.STARTED: _started,
    Kind.REUSED: _reused,
    Kind.FAILED: _failed,
    Kind.LOST: _lost,
    Kind.DELAYED: _delayed,
    Kind.RETRIED: _retried,
    Kind.CANCELED: _canceled,
    Kind.DEADLINE: _deadline,
    Kind.FINISHED: _finished,
}
