"""The wiring app: base templates, static files and the commands `up` and `demo`."""

from django.apps import AppConfig

from ipau.celery import app as celery_app

__all__ = ["IpauConfig", "celery_app"]


class IpauConfig(AppConfig):
    """Loading it makes our Celery app the current one, so that every process can send wake-ups."""

    name = "ipau"
