"""Gives a real worker the poison: `celery worker -I` with this module. Tests do not import it."""

from tests.processing.crashing_operation import Poison
from workers import registry

registry.discover()
registry._add(Poison())
