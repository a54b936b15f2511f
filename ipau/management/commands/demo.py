"""`./manage.py demo`: run the site with demo images, and run all apps and models on them."""

import argparse
import time
from typing import Any

from django.core.management.base import BaseCommand

from ipau.common.errors import DomainError
from ipau.demo import EMAIL, Demo, DemoError, DemoInterrupted, DemoRow, table
from ipau.management.commands.up import add_site_arguments, email_notice, sentences
from ipau.supervisor import Site, StopSignals, site_running
from ipau.supervisor.child import say
from ipau.supervisor.programs import Address
from ipau.supervisor.site import POLL_SECONDS


class Command(BaseCommand):
    help = (
        "Start the whole site, upload photos to a demo account, run the built-in apps on them and the demo "
        "models on their own images, and keep running until Ctrl-C."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_site_arguments(parser)
        parser.add_argument("--once", action="store_true", help="stop after the table of results")

    def handle(self, *args: Any, **options: Any) -> None:
        address = Address(options["host"], options["port"])
        rows: list[DemoRow] = []
        say("Starting PostgreSQL, Valkey, the web server and the workers …")
        with (
            sentences(),
            StopSignals() as stop,
            site_running(address, slots=options["workers"], echo=False) as site,
        ):
            stop.on_second = site.hurry
            try:
                if site.wait_ready(interrupted=stop.asked):
                    rows = run_demo(site, stop, address)
                while not (stop.asked() or options["once"]):
                    site.tend()
                    time.sleep(POLL_SECONDS)
            except DemoInterrupted:
                say("")
            except (DemoError, DomainError) as error:
                raise SystemExit(f"The demo failed. {error}") from error
            say("Stopping …")
        if options["once"] and (not rows or any(row.failed for row in rows)):
            raise SystemExit("The demo failed: not all images succeeded.")


def run_demo(site: Site, stop: StopSignals, address: Address) -> list[DemoRow]:
    """Upload images, run all apps, print the results; return the rows of the table."""

    def between() -> None:
        if stop.asked():
            raise DemoInterrupted
        site.tend()

    demo = Demo(between)
    person, password = demo.person()
    folder = demo.upload(person)
    rows = [*demo.run(person, folder), *demo.run_models(person)]
    say(f"\n{table(rows)}\n")
    say(f"{address.url}  Sign in as {EMAIL} with the password {password}")
    if notice := email_notice(f"written to {site.log_of('web')}"):
        say(notice)
    # Last: trials of models would compete with the jobs above for the CPU.
    demo.try_models()
    return rows
