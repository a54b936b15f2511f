"""The queues that have a meaning, and which device serves them."""

from django.conf import settings

from workers.plugin import PROCESSOR

GPU_QUEUE = "gpu"


def device_of(queue: str) -> str:
    """Return what networks run on in turns of a queue, as `workers.plugin.Context` calls it."""
    return str(settings.GPU_DEVICE) if queue == GPU_QUEUE else PROCESSOR
