"""Pauses of models: kill counter, e-mail to the seller, and resuming by operators."""

import smtplib
import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from ipau.common.errors import Conflict
from market.listings import pauses
from market.models import Pause, Version
from market.weights import pause_emails, tasks
from processing import services
from processing.execution import work
from processing.models import Item, State
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.market import factories
from tests.pictures import picture_bytes
from tests.processing.factories import submit_version
from workers.inference.errors import ModelFault
from workers.plugin import OperationError

pytestmark = pytest.mark.django_db


@pytest.fixture
def seller() -> User:
    return UserFactory.create(email="seller@example.org")


@pytest.fixture
def version(seller: User) -> Version:
    with factories.marks(), transaction.atomic():
        return factories.model(seller, "finder", publish=True)


def kill(version: Version, times: int) -> None:
    assert version.weights is not None
    for _ in range(times):
        pauses.note_fault(ModelFault.overran(version.weights.digest, 5))
    version.refresh_from_db()


def test_a_model_is_paused_after_too_many_kills(version: Version, settings: Settings) -> None:
    settings.MODEL_MOST_KILLS = 3
    kill(version, 2)
    assert version.paused_at is None
    kill(version, 1)
    assert version.paused_at is not None
    assert pauses.are_paused([version.weights.digest])
    assert not pauses.are_paused([])


def test_only_killed_processes_count(version: Version, settings: Settings) -> None:
    settings.MODEL_MOST_KILLS = 1
    for error in (
        ModelFault("It takes none."),
        ModelFault.out_of_memory(),
        OperationError("No."),
        ValueError(),
    ):
        pauses.note_fault(error)
    assert not Pause.objects.exists()
    pauses.count_kill(digest="0" * 64)
    assert not Pause.objects.exists()


def test_old_kills_do_not_count(version: Version, settings: Settings) -> None:
    settings.MODEL_MOST_KILLS = 3
    kill(version, 2)
    Pause.objects.update(counted_since=Now() - timedelta(days=1, seconds=1))
    kill(version, 2)
    assert version.paused_at is None
    assert Pause.objects.get().kills == 2
    kill(version, 1)
    assert version.paused_at is not None


def test_nobody_runs_a_paused_model(user: User, version: Version, client: Client) -> None:
    file = upload(user, "a.png", data=picture_bytes("PNG"))
    with factories.marks():
        job = submit_version(user, version, [file])
        kill(version, 5)
        with pytest.raises(Conflict, match="paused") as refused:
            submit_version(user, version, [file])
        assert refused.value.code == "model_paused"
        with pytest.raises(Conflict):
            services.preview_file(owner=user, version=version, params={}, file=file)
        # Waiting jobs fail with the reason and cost nothing.
        work.take_turn(user.pk, "cpu")
        job.refresh_from_db()
        assert (job.state, job.failed, job.price_charged) == (State.FAILED, 1, 0)
        item = Item.objects.get(job=job)
        assert (item.error_code, item.attempts) == ("model_paused", 0)
        page = client.get(f"/apps/{version.listing.owner.handle}/finder/")
        assert "This model is paused" in page.content.decode()


def test_the_seller_gets_one_email(version: Version) -> None:
    kill(version, 5)
    pause_emails.send_due()
    pause_emails.send_due()
    (sent,) = mail.outbox
    assert sent.to == ["seller@example.org"]
    assert "Finder" in sent.subject
    assert "is paused" in sent.body
    assert f"{version.listing.owner.handle}/finder" in sent.body
    kill(version, 3)
    pause_emails.send_due()
    assert len(mail.outbox) == 1


def test_a_failed_email_is_retried(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(version, 5)

    def refuse(*_: object) -> None:
        raise smtplib.SMTPServerDisconnected

    with monkeypatch.context() as patched:
        patched.setattr("django.core.mail.EmailMessage.send", refuse)
        pause_emails.send_due()
    assert not pause_emails.due().exists()
    Pause.objects.update(tell_at=Now() - timedelta(seconds=1))
    tasks.tell_paused()
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_a_slow_mail_server_blocks_nothing(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(version, 5)
    sends = EmailMessage.send

    def meanwhile() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            pauses.count_kill(digest=version.weights.digest)
            pause_emails.send_due()
        finally:
            connection.close()

    def slowly(message: EmailMessage) -> int:
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join(30)
        return sends(message)

    monkeypatch.setattr(EmailMessage, "send", slowly)
    pause_emails.send_due()
    assert Pause.objects.get().kills == 6
    # The other worker did not send the e-mail too.
    assert len(mail.outbox) == 1


def test_another_worker_sends_the_email_of_a_dead_one(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(version, 5)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EmailMessage, "send", die)
        with pytest.raises(Killed):
            pause_emails.send_due()
    pause_emails.send_due()
    assert mail.outbox == []
    Pause.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    pause_emails.send_due()
    assert len(mail.outbox) == 1


def test_operators_resume_a_model(version: Version, admin_client: Client) -> None:
    kill(version, 5)
    pause = Pause.objects.get()
    answer = admin_client.post(
        "/admin/market/pause/", {"action": "resume", "_selected_action": str(pause.pk)}, follow=True
    )
    assert answer.status_code == 200
    version.refresh_from_db()
    assert version.paused_at is None
    assert not Pause.objects.exists()
