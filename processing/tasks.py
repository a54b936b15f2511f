"""The envelopes that carry processing's work to a worker."""

from uuid import UUID

from ipau.common import concurrency
from ipau.common.tasks import task, wake
from processing import broker, endings, fleet, lanes, memory, preview_queue, work
from processing.models import Delivery, JobMail
from processing.notices import outbox, turns
from processing.previews import PATIENCE_SECONDS, QUEUE

JOB_QUEUES = ("cpu", "gpu")


@task(name="processing.turn", queue="cpu")
def turn(owner_id: str, queue: str) -> None:
    send_turns(owner_id=owner_id, queue=queue, number=work.take_turn(UUID(owner_id), queue))
    send_notices(owner_id=UUID(owner_id))


@task(name="processing.preview", queue=QUEUE, soft_time_limit=2 * PATIENCE_SECONDS, expires=PATIENCE_SECONDS)
def preview() -> None:
    if work.make_previews():
        wake_preview()


@task(name="processing.sweep", queue="background", expires=60)
def sweep() -> None:
    endings.end_overdue()
    send_notices()
    for owner_id, queue in work.reclaim_lost():
        send_turns(owner_id=owner_id, queue=queue, number=lanes.wake_waiting(owner_id=owner_id, queue=queue))
    _wake_silent()
    fleet.forget_gone()
    memory.forget_old()


@task(name="processing.deliver", queue="background", expires=60)
def deliver() -> None:
    if turns.deliver():
        wake(deliver)


@task(name="processing.send_mails", queue="background", expires=60)
def send_mails() -> None:
    if turns.send_mails():
        wake(send_mails)


@task(name="processing.sweep_notices", queue="background", expires=3600)
def sweep_notices() -> None:
    turns.sweep()


def _wake_silent() -> None:
    depth = {queue: broker.depth(queue) for queue in JOB_QUEUES}
    for owner_id, queue in lanes.silent_lanes(depth=depth):
        send_turns(owner_id=owner_id, queue=queue, number=lanes.restir(owner_id=owner_id, queue=queue))


def send_preview(*request: object) -> bool:
    """Ask a preview worker; return whether the request is on its way."""
    return preview_queue.put(list(request), person=concurrency.person()) or wake_preview()


def wake_preview() -> bool:
    """Wake a slot to look for requests; return whether the broker took the message."""
    return wake(preview)


def send_turns(*, owner_id: UUID | str, queue: str, number: int) -> None:
    """Wake `number` slots of a queue for an owner's work."""
    for _ in range(number):
        if not wake(turn, str(owner_id), queue, queue=queue):
            # A broker that hangs would cost its time-out each time. The sweep sends them all again.
            return


def send_notices(*, owner_id: UUID | None = None) -> None:
    """Wake a worker for each kind of notice that is due, of one person or of anybody."""
    if outbox.is_due(Delivery, owner_id=owner_id):
        wake(deliver)
    if outbox.is_due(JobMail, owner_id=owner_id):
        wake(send_mails)
