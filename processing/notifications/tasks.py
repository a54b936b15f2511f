"""Celery tasks: deliver webhooks, send e-mails and delete old notices."""

from uuid import UUID

from ipau.common.tasks import task, wake
from processing.models import Delivery, JobMail
from processing.notifications import outbox, work


@task(name="processing.deliver", queue="background", expires=60)
def deliver() -> None:
    if work.deliver():
        wake(deliver)


@task(name="processing.send_mails", queue="background", expires=60)
def send_mails() -> None:
    if work.send_mails():
        wake(send_mails)


@task(name="processing.sweep_notices", queue="background", expires=3600)
def sweep_notices() -> None:
    work.sweep()


def send_notices(*, owner_id: UUID | None = None) -> None:
    """Wake a worker for each kind of due notice, of one account or of any."""
    if outbox.is_due(Delivery, owner_id=owner_id):
        wake(deliver)
    if outbox.is_due(JobMail, owner_id=owner_id):
        wake(send_mails)
