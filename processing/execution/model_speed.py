"""Speed of models in jobs: time per image, summed in the transaction that records a chunk."""

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
class SpeedSample:
    """Speed of weights (by digest) in one chunk, in seconds of the slot per image."""

    weights: str
    device: Device
    seconds: float


def measure(recipe: Recipe, context: Context, chunk: Chunk) -> SpeedSample | None:
    """Return the speed of a chunk, or None if it does not measure a single model.

    Steps of a pipeline are timed together. Stuck images and GPU failures make timings useless.
    """
    if len(recipe.steps) != 1 or chunk.seconds is None or chunk.is_broken:
        return None
    (step,) = recipe.steps
    if step.weights is None:
        return None
    return SpeedSample(step.weights, name_device(context.device, step.operation), chunk.seconds)


def add(sample: SpeedSample, recorded: Sequence[Done]) -> None:
    """Add the times of images to the totals. Call it last in the transaction that records them.

    Failed images and reused results do not count.

    Args:
        recorded: items that this slot still owned when it recorded them, so that each counts once.
    """
    new = [done for done in recorded if done.state == State.SUCCEEDED and not done.reused]
    if new:
        speeds.add_pictures(
            digest=sample.weights,
            device=sample.device,
            pictures=len(new),
            run_ms=sum(done.timings["run"] for done in new),
            slot_ms=1000 * sample.seconds * len(new),
        )
