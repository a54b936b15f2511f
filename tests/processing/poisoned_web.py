"""The site with the poison among its operations: `gunicorn tests.processing.poisoned_web`."""

from ipau.wsgi import application
from tests.processing import poisoned

__all__ = ["application", "poisoned"]
