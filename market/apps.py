from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _sync_listings(**_: Any) -> None:
    from market.listings.services import sync_builtin_listings  # noqa: PLC0415  (models are not loaded earlier)

    sync_builtin_listings()


class MarketConfig(AppConfig):
    name = "market"

    def ready(self) -> None:
        # Built-in apps are listings in the database. Each migration syncs them with the code.
        post_migrate.connect(_sync_listings, sender=self)
