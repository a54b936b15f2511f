"""Tasks: turns at jobs, and the sweep of what was lost."""

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
    registry.forget_gone()
    result_cache.forget_old()


def send_turns(*, owner_id: UUID | str, queue: str, number: int) -> None:
    """Wake `number` slots of a queue for an owner's work."""
    for _ in range(number):
        if not wake(turn, str(owner_id), queue, queue=queue):
            # A broker that hangs would cost its time-out each time. The sweep sends them all again.
            return


def _wake_silent() -> None:
    depth = {queue: broker.depth(queue) for queue in JOB_QUEUES}
    for owner_id, queue in wakeups.silent_lanes(depth=depth):
        send_turns(owner_id=owner_id, queue=queue, number=wakeups.restir(owner_id=owner_id, queue=queue))
