"""`./manage.py import_weights FILE --owner EMAIL --name NAME`: convert weights from the command line."""

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
from market.weights.report import describe_report
from market.weights.speeds import format_speed

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 20 * 60.0


class Command(BaseCommand):
    help = (
        "Upload weights into the drive of an account, let a worker convert them, and print the report. If "
        "they are refused, the exit status is not 0, and the file is deleted, unless it was in the drive "
        "before."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--owner", required=True, metavar="EMAIL", help="account that owns the model")
        parser.add_argument("--name", required=True, help="the second part of its address: owner/name")
        parser.add_argument("--title", default="", help="title shown on pages")
        parser.add_argument(
            "--family", default="", help="family that converts the weights (default: detected)"
        )
        parser.add_argument("--config", type=Path, help="the config.json that belongs to the weights")
        parser.add_argument("--publish", action="store_true", help="share the model with everyone")
        parser.add_argument(
            "--wait",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="wait for the conversion and print the report",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            conversion, is_new = _request(options)
        except DomainError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from error
        address = f"{conversion.owner.handle}/{conversion.name}"
        self.stdout.write(f"Conversion {conversion.pk} of {conversion.source_name} to {address}")
        if not options["wait"]:
            return
        conversion = _wait(conversion)
        if is_new and conversion.state == ConversionState.FAILED and conversion.file:
            _delete_file(conversion.file)
        self._finish(conversion, publish=options["publish"])

    def _finish(self, conversion: Conversion, *, publish: bool) -> None:
        self._print(conversion)
        if not conversion.needs_confirmation:
            return
        if publish and conversion.report.get("is_certain"):
            confirm_layout.confirm_conversion(owner=conversion.owner, conversion_id=conversion.pk)
            self.stdout.write("Only one output layout is possible. It is confirmed.")
            return
        layouts = "".join(f"\n  {_as_config(one)}" for one in conversion.report["choices"])
        text = (
            "Until its owner confirms the output layout, only the owner can run it. Confirm it on "
            f"{settings.BASE_URL}{reverse('models:conversion', args=[conversion.pk])}, or run this command "
            f"again with the correct one of these lines in the file of --config:{layouts}"
        )
        if publish:
            raise CommandError(f"The model is not shared yet. {text}")
        self.stdout.write(text)

    def _print(self, conversion: Conversion) -> None:
        version = conversion.version
        report = describe_report(conversion.report, version.weights if version else None)
        for label, text in report.facts:
            self.stdout.write(f"{label}: {text}")
        for speed in version.weights.speeds.all() if version and version.weights else ():
            self.stdout.write(format_speed(speed))
        if report.untried:
            self.stdout.write(report.untried)
        if report.classes:
            more = f" and {report.more_classes} more" if report.more_classes else ""
            self.stdout.write(f"Classes: {', '.join(report.classes)}{more}")
        for name, size, digest in report.files:
            self.stdout.write(f"{name}: {size}, SHA-256 {digest}")
        for sentence in [*report.isolation, *report.checks]:
            self.stdout.write(sentence)
        if conversion.state == ConversionState.FAILED:
            raw = conversion.report
            raise CommandError(f"Refused ({raw.get('code', '')}): {raw.get('sentence', '')}")
        assert version is not None
        self.stdout.write(f"Ready: version {version.number}")


def _request(options: dict[str, Any]) -> tuple[Conversion, bool]:
    """Request the conversion. Return it, and whether the file is new in the drive."""
    owner = User.objects.filter(email__iexact=options["owner"]).first()
    if owner is None:
        raise CommandError(f"There is no account with the e-mail address '{options['owner']}'.")
    config = options["config"].read_text(errors="replace") if options["config"] else ""
    path: Path = options["file"]
    with path.open("rb") as content:
        existing = conversions.find_weights(owner=owner, content=content)
        file = existing or conversions.upload_weights(
            owner=owner, name=path.name, content=content, size=path.stat().st_size
        )
    fields = {name: options[name] for name in ("name", "title", "family", "publish")}
    try:
        conversion = conversions.request_conversion(owner=owner, file=file, config=config, **fields)
    except DomainError:
        if existing is None:
            _delete_file(file)
        raise
    return conversion, existing is None


def _delete_file(file: File) -> None:
    # The owner may have deleted it already.
    with contextlib.suppress(NotFound):
        trash.delete_file(owner=file.owner, file_id=file.pk)


def _as_config(choice: dict[str, Any]) -> str:
    """Return the `config.json` that selects this layout."""
    config = {"task": choice["task"]}
    if choice["layout"] in confirm_layout.NAMED_LAYOUTS:
        config["layout"] = choice["layout"]
    return json.dumps(config)


def _wait(conversion: Conversion) -> Conversion:
    ends = time.monotonic() + TIMEOUT_SECONDS
    while conversion.is_open:
        if time.monotonic() > ends:
            raise CommandError("No worker has converted it within 20 minutes. The conversion stays queued.")
        time.sleep(POLL_SECONDS)
        conversion.refresh_from_db()
    return conversion
