"""Noting who is to be told that a job has moved. Call these in the transaction that moves it.

Only rows are written here; a worker sends them when that is committed.
"""

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from processing.models import ENDED, Delivery, Job, JobKind, JobMail, State

# A job of many pictures has news each second; an address is not told more often than this.
OUTPUT_EVERY = timedelta(seconds=5)


class Event(models.TextChoices):
    """What can be asked to be told. Nothing is sent for `logs`: they come with the others."""

    START = "start", _("Begun")
    OUTPUT = "output", _("Results")
    LOGS = "logs", _("Log")
    COMPLETED = "completed", _("Ended")
    PING = "ping", _("Test")


WANTED = (Event.START, Event.OUTPUT, Event.LOGS, Event.COMPLETED)


# What is told to who has not said what they want.
_DEFAULT = {
    JobKind.PREDICTION: (Event.OUTPUT, Event.COMPLETED),
    JobKind.JOB: (Event.COMPLETED,),
}


def job_started(job: Job) -> None:
    """Note that the first picture of a job has been taken."""
    if _wants(job, Event.START):
        _tell(job, Event.START)


def job_moved(job: Job) -> None:
    """Note that a locked job has new results, or has ended; its row says so already."""
    if _wants(job, Event.OUTPUT) and _has_news(job):
        _tell(job, Event.OUTPUT)
    if job.state not in ENDED:
        return
    if _wants(job, Event.COMPLETED):
        _tell(job, Event.COMPLETED)
    if job.mail_when_done and job.completed_at is not None:
        mail = JobMail(job=job, owner_id=job.owner_id, ended_at=job.completed_at, next_at=Now())
        JobMail.objects.bulk_create([mail], ignore_conflicts=True)


def _wants(job: Job, event: Event) -> bool:
    return bool(job.webhook) and event in (job.webhook_events or _DEFAULT[JobKind(job.kind)])


def _has_news(job: Job) -> bool:
    """Tell whether results are worth an event now: a prediction's when it is there, a job's now and then."""
    if job.kind == JobKind.PREDICTION:
        return job.state == State.SUCCEEDED
    lately = Delivery.objects.filter(job=job, event=Event.OUTPUT, created_at__gt=Now() - OUTPUT_EVERY)
    return job.is_open and not lately.exists()


def _tell(job: Job, event: Event) -> None:
    made = Delivery(
        owner_id=job.owner_id,
        job=job,
        event=event,
        url=job.webhook,
        ended_at=job.completed_at if event == Event.COMPLETED else None,
        next_at=Now(),
    )
    # Told twice of one end, the database keeps one.
    Delivery.objects.bulk_create([made], ignore_conflicts=True)
