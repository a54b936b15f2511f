"""Table of killed runs and pauses of weights."""

from django.db import models

from ipau.common.leases import Leased, is_whole
from ipau.common.models import BaseModel
from market.models.weights import Weights


class Pause(BaseModel, Leased):
    """Number of recently killed runs of weights. Above a limit the weights are paused.

    `Version.paused_at` repeats `paused_at` for all code that runs a version. The worker that e-mails the
    sellers holds the lease.
    """

    weights = models.OneToOneField(Weights, models.CASCADE, related_name="pause")
    kills = models.PositiveIntegerField(default=0)
    # Time of the first of these kills.
    counted_since = models.DateTimeField()
    paused_at = models.DateTimeField(null=True, blank=True)
    # When to e-mail the sellers; null: done, or not paused.
    tell_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=is_whole(), name="pause_lease_is_whole")]

    def __str__(self) -> str:
        return f"{self.weights_id}: {self.kills}"
