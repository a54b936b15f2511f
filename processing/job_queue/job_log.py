"""A job's log: what happened to it, as rows of kind and details. Words are made when somebody reads them.

A line is never a picture's: what happens to many pictures is counted in one line, so that a log stays short
whatever the job's size.
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

# Beyond so many different lines of one kind, further ones are counted in one without its details.
MOST_TALLIES = 20
MOST_LINES = 500


class Kind(models.TextChoices):
    """What can happen to a job."""

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
    """A line of the log as a person reads it."""

    at: datetime
    kind: str
    text: str


def note(job_id: UUID, kind: Kind, **details: Any) -> None:
    """Write a line. Call it in the transaction in which it happens."""
    JobEvent.objects.create(job_id=job_id, kind=kind, details=details)


def tally(job_id: UUID, kind: Kind, number: int, **details: Any) -> None:
    """Count `number` pictures into the line of these details, making it where it is missing.

    After a retry counting begins anew. Call it with the job's row locked.
    """
    lines = JobEvent.objects.filter(job=job_id)
    since = lines.filter(kind=Kind.RETRIED).aggregate(last=Max("id"))["last"] or 0
    earlier = list(lines.filter(kind=kind, id__gt=since).order_by("id"))
    found = _line_of(earlier, details)
    if found is None and len(earlier) >= MOST_TALLIES:
        details = {}
        found = _line_of(earlier, details)
    if found is None:
        note(job_id, kind, **details, n=number)
        return
    found.details["n"] += number
    found.save(update_fields=["details"])


def log_of(job: Job) -> list[LogLine]:
    """Return the job's log, the oldest line first."""
    rows = JobEvent.objects.filter(job=job).order_by("id")[:MOST_LINES]
    return [LogLine(row.at, row.kind, text_of(row)) for row in rows]


def text_of(event: JobEvent) -> str:
    """Return what happened in words of the reader's language."""
    write = _TEXTS.get(event.kind)
    return write(event.details) if write else event.kind


def _submitted(details: Mapping[str, Any]) -> str:
    number, skipped = details.get("n", 0), details.get("skipped", 0)
    text = ngettext("Submitted with %(n)s picture.", "Submitted with %(n)s pictures.", number)
    text %= {"n": intcomma(number)}
    return f"{text} {skipped_text(skipped)}" if skipped else text


def skipped_text(number: int) -> str:
    """Say how many pictures of an earlier job could not be taken again."""
    text = ngettext(
        "%(n)s picture of the earlier job is no longer there and was left out.",
        "%(n)s pictures of the earlier job are no longer there and were left out.",
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
            "%(n)s result was taken from before instead of being computed again.",
            "%(n)s results were taken from before instead of being computed again.",
            details.get("n", 0),
        ),
    )


def _failed(details: Mapping[str, Any]) -> str:
    reason = details.get("reason")
    number = details.get("n", 0)
    text = _counted(details, ngettext("%(n)s picture failed.", "%(n)s pictures failed.", number))
    return f"{text} {reason}" if reason else text


def _lost(details: Mapping[str, Any]) -> str:
    worker = details.get("worker") or _("A worker")
    text = ngettext(
        "%(worker)s was lost with %(n)s picture, which waits again.",
        "%(worker)s was lost with %(n)s pictures, which wait again.",
        details.get("n", 0),
    )
    return text % {"worker": worker, "n": intcomma(details.get("n", 0))}


def _delayed(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "The storage did not answer for %(n)s picture, which waits again.",
        "The storage did not answer for %(n)s pictures, which wait again.",
        details.get("n", 0),
    )
    return _counted(details, text)


def _retried(details: Mapping[str, Any]) -> str:
    text = ngettext("%(n)s picture is tried again.", "%(n)s pictures are tried again.", details.get("n", 0))
    text = _counted(details, text)
    if details.get("deadline"):
        return f"{text} {_('The deadline had passed and was removed.')}"
    return text


def _canceled(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "Canceled by its owner, with %(n)s picture left.",
        "Canceled by its owner, with %(n)s pictures left.",
        details.get("n", 0),
    )
    return _counted(details, text)


def _deadline(details: Mapping[str, Any]) -> str:
    text = ngettext(
        "The deadline passed with %(n)s picture left, so the job was ended.",
        "The deadline passed with %(n)s pictures left, so the job was ended.",
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
