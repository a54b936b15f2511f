from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _sync_listings(**_: Any) -> None:
    from market.listings.services import sync_builtin_listings  # noqa: PLC0415  (models are ready only now)

    sync_builtin_listings()


class MarketConfig(AppConfig):
    name = "market"

    def ready(self) -> None:
        # The built-in apps are rows like any other, and stand in step with the code after each migration.
        post_migrate.connect(_sync_listings, sender=self)
