"""Daily time budget of an owner's conversions and trials."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import F, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from ipau.common.errors import RateLimited
from market.models import ConversionAccount, ConversionDay

# The time used within this many days decides which owner is next.
RECENT_DAYS = 2
RETENTION = timedelta(days=90)


@dataclass(frozen=True)
class Budget:
    """Seconds used and allowed on the day (UTC) that ends at `renewed_at`."""

    used: float
    allowed: float
    renewed_at: datetime

    @property
    def is_spent(self) -> bool:
        return self.used >= self.allowed

    @property
    def minutes(self) -> int:
        """Minutes allowed per day."""
        return round(self.allowed / 60)

    @property
    def minutes_left(self) -> int:
        """Minutes left today, rounded up."""
        return max(0, -int(-(self.allowed - self.used) // 60))

    @property
    def sentence(self) -> str:
        """The error message of a spent budget, with the time of renewal."""
        text = _(
            "You have used your %(minutes)d minutes of conversion time for today. "
            "Conversions continue at %(day)s, 00:00 UTC."
        )
        return text % {"minutes": self.minutes, "day": self.renewed_at.date().isoformat()}


def budget_of(owner_id: UUID) -> Budget:
    """Return the owner's budget of today."""
    rows = ConversionAccount.objects.filter(pk=owner_id)
    minutes = rows.values_list("minutes_a_day", flat=True).first()
    if minutes is None:
        minutes = settings.CONVERSION_MINUTES_A_DAY
    today = _today()
    used = ConversionDay.objects.filter(owner=owner_id, day=today).values_list("seconds", flat=True).first()
    return Budget(used or 0.0, 60.0 * minutes, _start_of(today + timedelta(days=1)))


def check_budget(owner_id: UUID) -> None:
    """Raise RateLimited if the owner's budget of today is spent."""
    budget = budget_of(owner_id)
    if budget.is_spent:
        seconds = math.ceil((budget.renewed_at - timezone.now()).total_seconds())
        raise RateLimited(budget.sentence, code="conversion_budget", retry_after=max(1, seconds))


def recent_seconds(owner_ids: Collection[UUID]) -> dict[UUID, float]:
    """Return the seconds used within `RECENT_DAYS`, by owner. Owners without usage are missing."""
    first = _today() - timedelta(days=RECENT_DAYS - 1)
    rows = ConversionDay.objects.filter(owner__in=owner_ids, day__gte=first)
    return dict(rows.values_list("owner").annotate(total=Sum("seconds")))


def count_seconds(owner_id: UUID, seconds: float) -> None:
    """Add to the seconds that an owner has used today."""
    day = _today()
    ConversionDay.objects.bulk_create([ConversionDay(owner_id=owner_id, day=day)], ignore_conflicts=True)
    ConversionDay.objects.filter(owner=owner_id, day=day).update(seconds=F("seconds") + max(0.0, seconds))


def delete_old_days() -> None:
    """Delete usage older than `RETENTION`."""
    ConversionDay.objects.filter(day__lt=_today() - RETENTION).delete()


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
