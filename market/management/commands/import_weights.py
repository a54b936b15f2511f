"""`./manage.py import_weights FILE --owner EMAIL --name NAME`: a seller's way, from the command line."""

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from accounts.models import User
from drive.files import trash
from drive.models import File
from ipau.common.errors import DomainError, NotFound
from market.models import Conversion, ConversionState
from market.weights import confirm_layout, conversions
from market.weights.report import tell
from market.weights.speeds import say_speed

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 20 * 60.0


class Command(BaseCommand):
    help = (
        "Put weights into somebody's drive, have a worker check and convert them as the page does, and print "
        "the report. The status is not 0 where they are refused; then they do not stay in the drive, unless "
        "they were there before."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--owner", required=True, metavar="EMAIL", help="whose model it becomes")
        parser.add_argument("--name", required=True, help="the second part of its address: owner/name")
        parser.add_argument("--title", default="", help="what people read")
        parser.add_argument("--family", default="", help="who shall read the weights (default: whoever can)")
        parser.add_argument("--config", type=Path, help="the config.json that belongs to the weights")
        parser.add_argument("--publish", action="store_true", help="let everybody find and run it")
        parser.add_argument(
            "--wait",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="wait for the end and print the report",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            conversion, is_new = _request(options)
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from error
        address = f"{conversion.owner.handle}/{conversion.name}"
        self.stdout.write(f"conversion {conversion.pk} of {conversion.source_name} to {address}")
        if not options["wait"]:
            return
        conversion = _wait(conversion)
        if is_new and conversion.state == ConversionState.FAILED and conversion.file:
            _take_away(conversion.file)
        self._end(conversion, publish=options["publish"])

    def _end(self, conversion: Conversion, *, publish: bool) -> None:
        self._print(conversion)
        if not conversion.awaits_word:
            return
        if publish and conversion.report.get("is_certain"):
            confirm_layout.confirm_conversion(owner=conversion.owner, conversion_id=conversion.pk)
            self.stdout.write("Its outputs can be read in one way only, which is confirmed.")
            return
        ways = "".join(f"\n  {_as_config(one)}" for one in conversion.report["choices"])
        text = (
            "Until its owner has confirmed how its outputs are read, nobody else runs it: on the page "
            f"{settings.BASE_URL}{reverse('models:conversion', args=[conversion.pk])}, or once more with the "
            f"right one of these in the file of --config:{ways}"
        )
        if publish:
            raise CommandError(f"It is not shared yet. {text}")
        self.stdout.write(text)

    def _print(self, conversion: Conversion) -> None:
        version = conversion.version
        told = tell(conversion.report, version.weights if version else None)
        for label, text in told.facts:
            self.stdout.write(f"{label}: {text}")
        for speed in version.weights.speeds.all() if version and version.weights else ():
            self.stdout.write(say_speed(speed))
        if told.untried:
            self.stdout.write(told.untried)
        if told.classes:
            more = f" and {told.more_classes} more" if told.more_classes else ""
            self.stdout.write(f"Classes: {', '.join(told.classes)}{more}")
        for name, size, digest in told.files:
            self.stdout.write(f"{name}: {size}, SHA-256 {digest}")
        for sentence in [*told.isolation, *told.checks]:
            self.stdout.write(sentence)
        if conversion.state == ConversionState.FAILED:
            report = conversion.report
            raise CommandError(f"Refused ({report.get('code', '')}): {report.get('sentence', '')}")
        assert version is not None
        self.stdout.write(f"Ready: version {version.number}")


def _request(options: dict[str, Any]) -> tuple[Conversion, bool]:
    """Ask for the conversion; return whether the file has come to the drive for it alone."""
    owner = User.objects.filter(email__iexact=options["owner"]).first()
    if owner is None:
        raise CommandError(f"Nobody has the address '{options['owner']}'.")
    config = options["config"].read_text(errors="replace") if options["config"] else ""
    path: Path = options["file"]
    with path.open("rb") as content:
        there = conversions.find_weights(owner=owner, content=content)
        file = there or conversions.upload_weights(
            owner=owner, name=path.name, content=content, size=path.stat().st_size
        )
    asked = {name: options[name] for name in ("name", "title", "family", "publish")}
    try:
        conversion = conversions.request_conversion(owner=owner, file=file, config=config, **asked)
    except DomainError:
        if there is None:
            _take_away(file)
        raise
    return conversion, there is None


def _take_away(file: File) -> None:
    # The owner may have been quicker.
    with contextlib.suppress(NotFound):
        trash.delete_file(owner=file.owner, file_id=file.pk)


def _as_config(choice: dict[str, Any]) -> str:
    """Return what a `config.json` says to have a graph read so."""
    said = {"task": choice["task"]}
    if choice["layout"] in confirm_layout.NAMED_LAYOUTS:
        said["layout"] = choice["layout"]
    return json.dumps(said)


def _wait(conversion: Conversion) -> Conversion:
    ends = time.monotonic() + PATIENCE_SECONDS
    while conversion.is_open:
        if time.monotonic() > ends:
            raise CommandError("No worker has converted it yet. It goes on by itself as soon as one can.")
        time.sleep(POLL_SECONDS)
        conversion.refresh_from_db()
    return conversion
