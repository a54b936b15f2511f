"""Tables of the fleet: workers, pending wake-ups, drain orders and samples of load."""

from django.conf import settings
from django.db import models


class Lane(models.Model):
    """Pending wake-ups of one owner in one queue."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    queue = models.CharField(max_length=20)
    outstanding = models.PositiveIntegerField(default=0)
    # When a wake-up was last sent or received. The sweep sends new wake-ups after a long silence.
    stirred_at = models.DateTimeField()
    # Until then one slot is closed to the owner, because an image took far longer than expected.
    restrained_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "queue"], name="lane_once")]

    def __str__(self) -> str:
        return f"{self.owner_id}/{self.queue}"


class Worker(models.Model):
    """A worker process of the fleet, as its last heartbeat described it."""

    name = models.CharField(primary_key=True, max_length=120)
    queues = models.JSONField(default=list)
    device = models.CharField(max_length=60, default="cpu")
    slots = models.PositiveSmallIntegerField()
    # Process ids of the running slots. A lease of any other process belongs to a dead one.
    slot_pids = models.JSONField(default=list)
    # Cores, memory and versions, read when the worker started.
    machine = models.JSONField(default=dict, blank=True)
    # Whether it takes no new work, as of its last heartbeat (see `Drain`).
    drained = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Drain(models.Model):
    """An operator's order that a worker takes no new work. It survives restarts of the worker."""

    worker = models.CharField(primary_key=True, max_length=120)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.worker


class FleetSample(models.Model):
    """How many slots of a worker were busy at one moment; kept for a day."""

    worker = models.CharField(max_length=120)
    at = models.DateTimeField()
    slots = models.PositiveSmallIntegerField()
    busy = models.PositiveSmallIntegerField()

    class Meta:
        indexes = [models.Index(fields=["at"], name="sample_age")]

    def __str__(self) -> str:
        return f"{self.worker} {self.busy}/{self.slots}"
