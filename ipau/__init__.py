"""Wiring: settings, addresses, the Celery app. Importing it makes the Celery app the current one."""

from ipau.celery import app as celery_app

__all__ = ["celery_app"]
