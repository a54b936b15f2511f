"""Pause models if their runs are killed too often, and resume them."""

import logging
from collections.abc import Collection
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ipau.common.errors import Conflict
from market.models import Pause, Version, Weights
from workers.inference.errors import ModelFault

logger = logging.getLogger(__name__)

CODE = "model_paused"
SENTENCE = _(
    "This model is paused: it took too long or crashed too often. "
    "Its owner has been notified. Choose another model, or try again later."
)
# The counter restarts after this time.
COUNTED_FOR = timedelta(days=1)


def note_fault(error: BaseException) -> None:
    """Count a fault that killed a model's process. Pauses the model after too many."""
    if isinstance(error, ModelFault) and error.killed:
        count_kill(digest=error.killed)


@transaction.atomic
def count_kill(*, digest: str) -> None:
    """Count a killed run of weights, and pause them after too many.

    Args:
        digest: digest of the weights. Deleted weights are ignored.
    """
    weights = Weights.objects.filter(digest=digest).first()
    if weights is None:
        return
    Pause.objects.bulk_create([Pause(weights=weights, counted_since=Now())], ignore_conflicts=True)
    rows = Pause.objects.filter(weights=weights)
    is_old = When(counted_since__lt=Now() - COUNTED_FOR, then=Value(1))
    rows.update(
        kills=Case(is_old, default=F("kills") + 1),
        counted_since=Case(
            When(counted_since__lt=Now() - COUNTED_FOR, then=Now()), default=F("counted_since")
        ),
        updated_at=Now(),
    )
    too_many = rows.filter(kills__gte=settings.MODEL_MOST_KILLS, paused_at=None)
    if too_many.update(paused_at=Now(), tell_at=Now()):
        logger.warning("Model %s is paused: %s of its runs were killed", digest, settings.MODEL_MOST_KILLS)
        Version.objects.filter(weights=weights).update(paused_at=Now(), updated_at=Now())


@transaction.atomic
def resume(*, weights: Weights) -> None:
    """Resume paused weights and reset their counter."""
    Pause.objects.filter(weights=weights).delete()
    Version.objects.filter(weights=weights).update(paused_at=None, updated_at=Now())


def are_paused(digests: Collection[str]) -> bool:
    """Return whether any of these weights are paused. No query without digests."""
    return (
        bool(digests)
        and Pause.objects.filter(weights__digest__in=list(digests), paused_at__isnull=False).exists()
    )


def check_runs(version: Version) -> None:
    """Raise Conflict if the weights of a version are paused."""
    if version.paused_at is not None:
        raise Conflict(str(SENTENCE), code=CODE)
