"""Models that did harm when they were run: how often, and since when they are paused."""

from django.db import models

from ipau.common.leases import Leased, is_whole
from ipau.common.models import BaseModel
from market.models.weights import Weights


class Pause(BaseModel, Leased):
    """How often a run of weights had to be ended lately. Beyond a bound they are paused.

    `Version.paused_at` repeats `paused_at`, where everything that runs a version sees it. The worker that
    writes to the sellers holds the lease meanwhile.
    """

    weights = models.OneToOneField(Weights, models.CASCADE, related_name="pause")
    kills = models.PositiveIntegerField(default=0)
    # When the first of these kills was.
    counted_since = models.DateTimeField()
    paused_at = models.DateTimeField(null=True, blank=True)
    # When the sellers are to be told by mail; null: they have been, or there is nothing to tell.
    tell_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=is_whole(), name="pause_lease_is_whole")]

    def __str__(self) -> str:
        return f"{self.weights_id}: {self.kills}"
