"""E-mails that tell the owner of a job that the job ended."""

import smtplib
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from processing.models import ENDED, Ending, Job, JobMail, State
from processing.notifications.outbox import Outcome
from processing.reporting import progress

UNSENT = "The mail server did not accept this e-mail."
RUNS_AGAIN = "The job runs again, so this e-mail would be out of date."
INACTIVE = "This account is disabled."


def send(mail: JobMail) -> Outcome:
    """Send an e-mail; return the outcome."""
    job = Job.objects.select_related("owner", "version__listing", "output_folder").get(pk=mail.job_id)
    if not job.owner.is_active:
        return Outcome(problem=INACTIVE, final=True)
    if job.state not in ENDED:
        return Outcome(problem=RUNS_AGAIN, final=True)
    with translation.override(settings.LANGUAGE_CODE):
        message = _write(job, mail)
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused:
        return Outcome(problem=UNSENT, final=True)
    except (smtplib.SMTPException, OSError):
        return Outcome(problem=UNSENT)
    return Outcome()


def _write(job: Job, mail: JobMail) -> EmailMultiAlternatives:
    context = _describe(job)
    message = EmailMultiAlternatives(
        subject=settings.EMAIL_SUBJECT_PREFIX + context["headline"],
        body=render_to_string("processing/mail/job_ended.txt", context),
        to=[job.owner.email],
        # The same at each attempt, so that clients show a repeated e-mail once.
        headers={"Message-ID": f"<{mail.pk}@{urlsplit(settings.BASE_URL).hostname}>"},
    )
    message.attach_alternative(render_to_string("processing/mail/job_ended.html", context), "text/html")
    return message


def _describe(job: Job) -> dict[str, Any]:
    title = _(job.version.listing.title)
    ran = job.started_at and job.completed_at and job.completed_at - job.started_at
    return {
        "job": job,
        "title": title,
        "headline": _headline(job) % {"title": title},
        "took": progress.time_text(ran.total_seconds()) if ran else "",
        "url": settings.BASE_URL + reverse("processing:job", args=[job.pk]),
        "site": settings.BASE_URL,
    }


def _headline(job: Job) -> str:
    if job.ending == Ending.DEADLINE:
        return _("%(title)s was canceled at its deadline")
    if job.state == State.CANCELED:
        return _("%(title)s was canceled")
    if job.state == State.FAILED:
        return _("%(title)s failed")
    if job.failed:
        return _("%(title)s is done, with failures")
    return _("%(title)s is done")
