"""Clean-up of what signing in leaves behind."""

from importlib import import_module

from django.conf import settings

from ipau.common.tasks import task


@task(name="accounts.sweep_sessions", queue="background", expires=3600)
def sweep_sessions() -> None:
    """Delete sessions whose time is over: each sign-in makes one, and nothing else ever deletes it."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
