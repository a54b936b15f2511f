"""Add the crashing operation to a real worker: `celery worker -I` with this module. Do not import it."""

from tests.processing.crashing_operation import Poison
from workers import registry

registry.discover()
registry._add(Poison())
