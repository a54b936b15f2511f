"""`./manage.py demo`: the whole site, with pictures in it and the apps at work."""

import argparse
import time
from typing import Any

from django.core.management.base import BaseCommand

from ipau.common.errors import DomainError
from ipau.demo import EMAIL, Demo, DemoError, DemoInterrupted, DemoRow, table
from ipau.management.commands.up import add_site_arguments, sentences
from ipau.supervisor import Site, StopSignals, site_running
from ipau.supervisor.child import say
from ipau.supervisor.programs import Address
from ipau.supervisor.site import POLL_SECONDS


class Command(BaseCommand):
    help = (
        "Start the whole site, put photographs into the drive of a demo person, run the built-in apps "
        "over them, and the models that came along over theirs, and keep serving until Ctrl-C."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_site_arguments(parser)
        parser.add_argument("--once", action="store_true", help="end after the table")

    def handle(self, *args: Any, **options: Any) -> None:
        address = Address(options["host"], options["port"])
        rows: list[DemoRow] = []
        say("starting PostgreSQL, Valkey, the web server and the workers …")
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
                raise SystemExit(f"The demo cannot go on. {error}") from error
            say("stopping …")
        if options["once"] and (not rows or any(row.failed for row in rows)):
            raise SystemExit("The demo did not finish: not every picture came out.")


def run_demo(site: Site, stop: StopSignals, address: Address) -> list[DemoRow]:
    """Upload, run and print; return the table's rows."""

    def between() -> None:
        if stop.asked():
            raise DemoInterrupted
        site.tend()

    demo = Demo(between)
    person, password = demo.person()
    folder = demo.upload(person)
    rows = [*demo.run(person, folder), *demo.run_models(person)]
    say(f"\n{table(rows)}\n")
    say(f"{address.url}  sign in as {EMAIL} with the password {password}")
    # Last: while models are tried, the processors are not the pictures' alone.
    demo.try_models()
    return rows
