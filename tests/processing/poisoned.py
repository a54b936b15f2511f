"""Gives a real worker the poison: `celery worker -I tests.processing.poisoned`. Tests do not import it."""

from tests.processing.poison import Poison
from workers import registry

registry.discover()
registry._add(Poison())
