"""Background task that deletes expired sessions."""

from importlib import import_module

from django.conf import settings

from ipau.common.tasks import task


@task(name="accounts.sweep_sessions", queue="background", expires=3600)
def sweep_sessions() -> None:
    """Delete expired sessions. Each sign-in creates one, and nothing else deletes them."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
