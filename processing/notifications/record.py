"""Record notifications about changes of a job. Call these in the transaction that changes the job.

This module only inserts rows. A worker sends them after the commit.
"""

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from processing.models import ENDED, Delivery, Job, JobKind, JobMail, State

# A large job has new results every second. Its `output` events have at least this interval.
OUTPUT_EVERY = timedelta(seconds=5)


class Event(models.TextChoices):
    """Webhook events. `logs` is accepted but sends nothing of its own."""

    START = "start", _("Started")
    OUTPUT = "output", _("Results")
    LOGS = "logs", _("Log")
    COMPLETED = "completed", _("Ended")
    PING = "ping", _("Test")


WANTED = (Event.START, Event.OUTPUT, Event.LOGS, Event.COMPLETED)


# Events that are sent when the request names none.
_DEFAULT = {
    JobKind.PREDICTION: (Event.OUTPUT, Event.COMPLETED),
    JobKind.JOB: (Event.COMPLETED,),
}


def job_started(job: Job) -> None:
    """Record that the first image of a job was started."""
    if _wants(job, Event.START):
        _add_delivery(job, Event.START)


def job_moved(job: Job) -> None:
    """Record that a job has new results or has ended. Its row is locked and already updated."""
    if _wants(job, Event.OUTPUT) and _has_news(job):
        _add_delivery(job, Event.OUTPUT)
    if job.state not in ENDED:
        return
    if _wants(job, Event.COMPLETED):
        _add_delivery(job, Event.COMPLETED)
    if job.mail_when_done and job.completed_at is not None:
        mail = JobMail(job=job, owner_id=job.owner_id, ended_at=job.completed_at, next_at=Now())
        JobMail.objects.bulk_create([mail], ignore_conflicts=True)


def _wants(job: Job, event: Event) -> bool:
    return bool(job.webhook) and event in (job.webhook_events or _DEFAULT[JobKind(job.kind)])


def _has_news(job: Job) -> bool:
    """Return whether to send an `output` event now: for a prediction at its end, for a job at intervals."""
    if job.kind == JobKind.PREDICTION:
        return job.state == State.SUCCEEDED
    recent = Delivery.objects.filter(job=job, event=Event.OUTPUT, created_at__gt=Now() - OUTPUT_EVERY)
    return job.is_open and not recent.exists()


def _add_delivery(job: Job, event: Event) -> None:
    delivery = Delivery(
        owner_id=job.owner_id,
        job=job,
        event=event,
        url=job.webhook,
        ended_at=job.completed_at if event == Event.COMPLETED else None,
        next_at=Now(),
    )
    # A unique constraint drops duplicate events of one end.
    Delivery.objects.bulk_create([delivery], ignore_conflicts=True)
