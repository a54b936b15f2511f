"""`./manage.py up`: run the whole site on this machine until Ctrl-C."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from ipau.embedded import EmbeddedError, logs
from ipau.supervisor import SiteError, StopSignals, site_running
from ipau.supervisor.child import say
from ipau.supervisor.programs import Address
from ipau.supervisor.site import POLL_SECONDS

CONSOLE_EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"


class Command(BaseCommand):
    help = (
        "Run the whole site: the web server, the workers and Celery beat, and PostgreSQL and Valkey unless "
        "DATABASE_URL and REDIS_URL are set. If EMAIL_URL is not set, e-mails are printed to the terminal. "
        "Ctrl-C stops the site; a second Ctrl-C stops it at once."
    )
    # Checks may query the database, and its address is unknown until it runs.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_site_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        address = Address(options["host"], options["port"])
        with sentences(), StopSignals() as stop, site_running(address, slots=options["workers"]) as site:
            stop.on_second = site.hurry
            if site.wait_ready(interrupted=stop.asked):
                say(f"ready: {address.url}")
                if notice := email_notice("printed here, in the lines that begin with “web”"):
                    say(notice)
            while not stop.asked():
                site.tend()
                time.sleep(POLL_SECONDS)
            say("Stopping. Press Ctrl-C again to stop at once.")


def add_site_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run a site."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=_port, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--workers",
        default=None,
        type=_positive,
        help="images that jobs process at the same time (default: one per core)",
    )


def email_notice(place: str) -> str:
    """Return where to find e-mails if no mail server is set, else an empty text.

    Args:
        place: where the output of the web server goes, as part of a sentence.
    """
    if settings.EMAIL_BACKEND != CONSOLE_EMAIL_BACKEND:
        return ""
    return f"No mail server is set (EMAIL_URL). E-mails, such as sign-up codes, are {place}."


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Convert errors of the site into a sentence and exit status 1."""
    try:
        yield
    except (EmbeddedError, SiteError) as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        raise SystemExit(f"The site stopped: {logs.system_reason(error)}{file}.") from error


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError("a port must be a number from 1 to 65535")
    return number


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return number
