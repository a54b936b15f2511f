"""The wiring app: base templates, static files and the commands `up` and `demo`."""

from django.apps import AppConfig


class IpauConfig(AppConfig):
    name = "ipau"
