"""Gives a real worker the family of tests: `celery worker -I` with this module. Not for import."""

from tests.processing.counting_family import LoggedMarks
from workers import registry

registry.discover()
registry._add(LoggedMarks())
