"""The envelopes that carry processing's work to a worker."""

from typing import Any
from uuid import UUID

from ipau.common.tasks import task, wake
from processing import broker, endings, fleet, lanes, memory, work
from processing.previews import PATIENCE_SECONDS

JOB_QUEUES = ("cpu", "gpu")


@task(name="processing.turn", queue="cpu")
def turn(owner_id: str, queue: str) -> None:
    send_turns(owner_id=owner_id, queue=queue, number=work.take_turn(UUID(owner_id), queue))


@task(
    name="processing.preview", queue="preview", soft_time_limit=2 * PATIENCE_SECONDS, expires=PATIENCE_SECONDS
)
def preview(
    request_id: str, key: str, source: dict[str, str], recipe: dict[str, Any], resources: dict[str, list[str]]
) -> None:
    work.make_preview(request_id, key, source, recipe, resources)


@task(name="processing.sweep", queue="convert", expires=60)
def sweep() -> None:
    endings.end_overdue()
    for owner_id, queue in work.reclaim_lost():
        send_turns(owner_id=owner_id, queue=queue, number=lanes.wake_waiting(owner_id=owner_id, queue=queue))
    depth = {queue: broker.depth(queue) for queue in JOB_QUEUES}
    for owner_id, queue in lanes.silent_lanes(depth=depth):
        send_turns(owner_id=owner_id, queue=queue, number=lanes.restir(owner_id=owner_id, queue=queue))
    fleet.forget_gone()
    memory.forget_old()


def send_preview(*request: object) -> bool:
    """Ask a preview worker; return whether the broker took the request."""
    return wake(preview, *request)


def send_turns(*, owner_id: UUID | str, queue: str, number: int) -> None:
    """Wake `number` slots of a queue for an owner's work."""
    for _ in range(number):
        if not wake(turn, str(owner_id), queue, queue=queue):
            # A broker that hangs would cost its time-out each time. The sweep sends them all again.
            return
