"""Pausing models whose runs had to be ended again and again, and letting them run again."""

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
    "This model is paused: it took far too long or broke down too often. "
    "Its owner has been told. Choose another model, or try again later."
)
# Kills that lie further back are forgotten.
COUNTED_FOR = timedelta(days=1)


def note_fault(error: BaseException) -> None:
    """Count a fault that ended a model's process against the model; pause it after too many."""
    if isinstance(error, ModelFault) and error.killed:
        count_kill(digest=error.killed)


@transaction.atomic
def count_kill(*, digest: str) -> None:
    """Count one more run of these weights that had to be ended, and pause them where they are too many.

    Args:
        digest: of the weights. Those that are gone meanwhile are passed over.
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
        logger.warning(
            "Model %s is paused: %s of its runs had to be ended", digest, settings.MODEL_MOST_KILLS
        )
        Version.objects.filter(weights=weights).update(paused_at=Now(), updated_at=Now())


@transaction.atomic
def resume(*, weights: Weights) -> None:
    """Let paused weights run again. They are counted anew."""
    Pause.objects.filter(weights=weights).delete()
    Version.objects.filter(weights=weights).update(paused_at=None, updated_at=Now())


def are_paused(digests: Collection[str]) -> bool:
    """Tell whether any of these weights are paused. No query where there are none."""
    return (
        bool(digests)
        and Pause.objects.filter(weights__digest__in=list(digests), paused_at__isnull=False).exists()
    )


def check_runs(version: Version) -> None:
    """Raise Conflict where a version is of paused weights."""
    if version.paused_at is not None:
        raise Conflict(str(SENTENCE), code=CODE)
