"""Names of queues with a device of their own, and the device of each queue."""

from django.conf import settings

from workers.plugin import PROCESSOR

GPU_QUEUE = "gpu"


def device_of(queue: str) -> str:
    """Return the device that networks of a queue run on, as in `workers.plugin.Context`."""
    return str(settings.GPU_DEVICE) if queue == GPU_QUEUE else PROCESSOR
