"""E-mails about ended jobs."""

import smtplib
from typing import Any

import pytest
from django.core import mail as post
from django.core.mail.backends import locmem
from django.db.models.functions import Now

from accounts.models import User
from processing import services
from processing.models import DeliveryState, Job, JobMail
from processing.notifications import work
from processing.services import Terms
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns

pytestmark = pytest.mark.django_db
WITH_EMAIL = Terms(mail_when_done=True)


def broken(owner: User) -> Any:
    whole = picture_bytes(width=800, height=600, seed=2)
    return upload(owner, "bad.jpg", data=whole[: len(whole) // 2])


def run(owner: User, *files: Any, terms: Terms = WITH_EMAIL) -> Job:
    job = submit(owner, files, terms=terms)
    take_turns(owner)
    job.refresh_from_db()
    return job


def test_an_email_summarizes_the_job(user: User, settings: Any) -> None:
    settings.BASE_URL = "https://ipau.example.org"
    job = run(user, upload(user, "a.jpg", seed=1), upload(user, "b.jpg", seed=3), broken(user))
    assert not work.send_mails()
    assert len(post.outbox) == 1
    sent: Any = post.outbox[0]
    assert (sent.to, sent.subject) == ([user.email], "IPAU: Black and white is done, with failures")
    address = f"https://ipau.example.org/jobs/{job.pk}/"
    folder = job.output_folder.name if job.output_folder else "-"
    assert sent.body.startswith(
        "Hello,\n\nBlack and white is done, with failures.\n\nSucceeded: 2\nFailed: 1\n"
    )
    assert address in sent.body
    assert f"Output folder: {folder}\n" in sent.body
    html = sent.alternatives[0].content
    assert f'<a href="{address}">' in html
    assert JobMail.objects.get().state == DeliveryState.DELIVERED
    # Only once.
    work.send_mails()
    assert len(post.outbox) == 1


def test_an_email_is_sent_only_on_request(user: User) -> None:
    run(user, upload(user), terms=Terms())
    work.send_mails()
    assert post.outbox == []


def test_each_kind_of_end_is_named(user: User) -> None:
    run(user, upload(user, "a.jpg", seed=1))
    run(user, broken(user))
    services.cancel_job(owner=user, job_id=submit(user, [upload(user, "c.jpg", seed=4)], terms=WITH_EMAIL).pk)
    work.send_mails()
    assert [sent.subject.removeprefix("IPAU: Black and white ") for sent in post.outbox] == [
        "is done",
        "failed",
        "was canceled",
    ]


def test_names_are_escaped_in_html_and_not_in_text(user: User) -> None:
    job = submit(user, [upload(user)], terms=WITH_EMAIL)
    assert job.output_folder is not None
    job.output_folder.name = "<b>&"
    job.output_folder.save()
    take_turns(user)
    work.send_mails()
    sent: Any = post.outbox[0]
    assert "folder: <b>&\n" in sent.body
    assert "&lt;b&gt;&amp;" in sent.alternatives[0].content


class Failing(locmem.EmailBackend):
    """A mail server that does not answer, or rejects the address."""

    error: Exception = OSError("down")

    def send_messages(self, messages: Any) -> int:
        raise self.error


def test_an_email_is_retried_if_the_server_is_down(user: User, settings: Any) -> None:
    run(user, upload(user))
    works = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Failing"
    assert not work.send_mails()
    waiting = JobMail.objects.get()
    assert (waiting.state, waiting.attempts) == (DeliveryState.WAITING, 1)
    assert waiting.problem
    settings.EMAIL_BACKEND = works
    work.send_mails()
    assert post.outbox == []
    JobMail.objects.update(next_at=Now())
    work.send_mails()
    assert len(post.outbox) == 1
    # If both arrived after all, mail clients show only one.
    assert post.outbox[0].extra_headers["Message-ID"].startswith(f"<{waiting.pk}@")


def test_a_rejected_address_is_not_retried(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(user, upload(user))
    settings.EMAIL_BACKEND = f"{__name__}.Failing"
    monkeypatch.setattr(Failing, "error", smtplib.SMTPRecipientsRefused({}))
    work.send_mails()
    assert JobMail.objects.get().state == DeliveryState.FAILED


def test_no_email_if_the_job_runs_again(user: User) -> None:
    job = run(user, broken(user))
    services.retry_job(owner=user, job_id=job.pk)
    work.send_mails()
    assert post.outbox == []
    take_turns(user)
    work.send_mails()
    assert len(post.outbox) == 1
