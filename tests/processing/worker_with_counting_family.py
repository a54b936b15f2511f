"""Add the counting family to a real worker: `celery worker -I` with this module. Do not import it."""

from tests.processing.counting_family import LoggedMarks
from workers import registry

registry.discover()
registry._add(LoggedMarks())
