"""The site with the crashing operation: `gunicorn tests.processing.web_with_crashing_operation`."""

from ipau.wsgi import application
from tests.processing import worker_with_crashing_operation

__all__ = ["application", "worker_with_crashing_operation"]
