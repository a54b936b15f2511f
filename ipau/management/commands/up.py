"""`./manage.py up`: the whole site on this machine, until Ctrl-C."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand

from ipau.embedded import EmbeddedError, logs
from ipau.supervisor import SiteError, StopSignals, site_running
from ipau.supervisor.child import say
from ipau.supervisor.programs import Address
from ipau.supervisor.site import POLL_SECONDS


class Command(BaseCommand):
    help = (
        "Run the whole site: PostgreSQL and Valkey of its own (where DATABASE_URL and REDIS_URL are not "
        "set), the web server, workers and clock. Ctrl-C stops it; a second Ctrl-C stops it at once."
    )
    # They may ask the database, whose address is only known once it runs.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_site_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        address = Address(options["host"], options["port"])
        with sentences(), StopSignals() as stop, site_running(address, slots=options["workers"]) as site:
            stop.on_second = site.hurry
            if site.wait_ready(interrupted=stop.asked):
                say(f"ready: {address.url}")
            while not stop.asked():
                site.tend()
                time.sleep(POLL_SECONDS)
            say("stopping; once more stops at once")


def add_site_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs a site."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=_port, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--workers", default=None, type=_positive, help="pictures worked on at once (default: one a core)"
    )


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Let what stands in the site's way end the command with a sentence and status 1."""
    try:
        yield
    except (EmbeddedError, SiteError) as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise SystemExit(f"The site had to stop: {logs.system_reason(error)}{place}.") from error


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError("a port is a number up to 65535")
    return number


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError("give a whole number above 0")
    return number
