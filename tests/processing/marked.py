"""Gives a real worker the family of tests: `celery worker -I tests.processing.marked`. Not for import."""

from tests.processing.marking import LoggedMarks
from workers import registry

registry.discover()
registry._add(LoggedMarks())
