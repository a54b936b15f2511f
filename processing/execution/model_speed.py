"""How fast a model is in jobs: what a chunk took, added up in the transaction that records it."""

from collections.abc import Sequence
from dataclasses import dataclass

from market.weights import speeds
from processing.execution.outcomes import Done
from processing.execution.thread_pool import Chunk
from processing.models import State
from workers.devices import Device
from workers.inference.sessions import name_device
from workers.plugin import Context
from workers.recipe import Recipe


@dataclass(frozen=True)
class Pace:
    """How fast weights, known by their digest, went through a chunk: seconds of the slot a picture."""

    weights: str
    device: Device
    seconds: float


def measure(recipe: Recipe, context: Context, chunk: Chunk) -> Pace | None:
    """Return how fast a chunk went; None where that says nothing about one model.

    So it is with pipelines, whose steps are timed together, and where a picture was stuck or the GPU failed.
    """
    if len(recipe.steps) != 1 or chunk.seconds is None or chunk.is_broken:
        return None
    (step,) = recipe.steps
    if step.weights is None:
        return None
    return Pace(step.weights, name_device(context.device, step.operation), chunk.seconds)


def note(pace: Pace, won: Sequence[Done]) -> None:
    """Add what pictures took; call it last in the transaction that records them.

    Those that failed, or took a result that was there already, say nothing.

    Args:
        won: items that this slot still held when it recorded them, so that each counts once.
    """
    new = [done for done in won if done.state == State.SUCCEEDED and not done.reused]
    if new:
        speeds.add_pictures(
            digest=pace.weights,
            device=pace.device,
            pictures=len(new),
            run_ms=sum(done.timings["run"] for done in new),
            slot_ms=1000 * pace.seconds * len(new),
        )
