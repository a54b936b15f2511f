"""Tables of conversion time per owner: the lease of current work, and seconds used per day."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from ipau.common.leases import Leased


class ConversionAccount(Leased):
    """The lease of an owner's conversions and trials: only one of them runs at a time.

    If the worker dies, the lease expires and another worker takes over.
    """

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="conversion_account"
    )
    minutes_a_day = models.PositiveIntegerField(
        _("minutes a day"), null=True, blank=True, help_text=_("Leave blank for the site default.")
    )
    # Time used until then is already in `ConversionDay`.
    counted_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    lease_token__isnull=False, lease_expires_at__isnull=False, counted_until__isnull=False
                )
                | models.Q(
                    lease_token__isnull=True, lease_expires_at__isnull=True, counted_until__isnull=True
                ),
                name="conversion_account_lease_is_whole",
            )
        ]

    def __str__(self) -> str:
        return str(self.owner)


class ConversionDay(models.Model):
    """Seconds that an owner's conversions and trials took on one day (UTC), however they ended."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversion_days")
    day = models.DateField()
    seconds = models.FloatField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "day"], name="conversion_day_once"),
            models.CheckConstraint(condition=models.Q(seconds__gte=0), name="conversion_day_not_negative"),
        ]
        indexes = [models.Index(fields=["day"], name="conversion_by_day")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.day}: {self.seconds:.0f} s"
