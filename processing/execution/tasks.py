"""Celery tasks: one turn of a slot, and the sweep that recovers lost work."""

from uuid import UUID

from ipau.common.tasks import task, wake
from processing.execution import result_cache, work
from processing.fleet import broker, registry
from processing.job_queue import transitions, wakeups
from processing.notifications.tasks import send_notices

JOB_QUEUES = ("cpu", "gpu")


@task(name="processing.turn", queue="cpu")
def turn(owner_id: str, queue: str) -> None:
    send_turns(owner_id=owner_id, queue=queue, number=work.take_turn(UUID(owner_id), queue))
    send_notices(owner_id=UUID(owner_id))


@task(name="processing.sweep", queue="background", expires=60)
def sweep() -> None:
    transitions.end_overdue()
    send_notices()
    for owner_id, queue in work.reclaim_lost():
        send_turns(
            owner_id=owner_id, queue=queue, number=wakeups.wake_waiting(owner_id=owner_id, queue=queue)
        )
    _wake_silent()
    registry.delete_old_rows()
    result_cache.delete_old()


def send_turns(*, owner_id: UUID | str, queue: str, number: int) -> None:
    """Wake `number` slots of a queue for an owner's work."""
    for _ in range(number):
        if not wake(turn, str(owner_id), queue, queue=queue):
            # A hanging broker would cost its timeout each time. The sweep resends all of them.
            return


def _wake_silent() -> None:
    depth = {queue: broker.depth(queue) for queue in JOB_QUEUES}
    for owner_id, queue in wakeups.find_silent(depth=depth):
        send_turns(
            owner_id=owner_id, queue=queue, number=wakeups.replace_lost(owner_id=owner_id, queue=queue)
        )
