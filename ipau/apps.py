"""Django app `ipau`: base templates, static files and the commands `up` and `demo`."""

from django.apps import AppConfig

from ipau.celery import app as celery_app

__all__ = ["IpauConfig", "celery_app"]


class IpauConfig(AppConfig):
    """App config. Importing this module sets the current Celery app, so every process can send wake-ups."""

    name = "ipau"
