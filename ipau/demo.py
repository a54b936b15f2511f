"""Demo data: an account with images, and jobs that run every built-in app and demo model on them."""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from accounts import services as accounts
from accounts.models import PLATFORM_HANDLE, User
from drive.files import services as drive
from drive.models import Folder
from drive.uploads import services
from market.listings import services as market
from market.models import Listing, ListingKind, Weights
from market.weights.install import install_model, show_model
from market.weights.tasks import send_trial
from processing import services as processing
from processing.models import OPEN, Job

EMAIL = "demo@example.org"
FOLDER = "Demo photos"
PHOTOS = Path(__file__).parent / "demo_photos"
# One folder per model: `card.json`, the converted model, and sample images (`make train-demo`).
MODELS = Path(__file__).parent.parent / "deploy" / "demo_models"
POLL_SECONDS = 0.1
STALLED_SECONDS = 120.0
BAR_WIDTH = 24


class DemoError(Exception):
    """The demo cannot continue. The message says why."""


class DemoInterrupted(Exception):
    """The user stopped the demo."""


@dataclass(frozen=True)
class DemoRow:
    """One row of the table of results."""

    app: str
    images: int
    failed: int
    seconds: float
    folder: str

    @property
    def rate(self) -> float:
        """Images per second, from submission to the end of the job."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Demo:
    """Runs the demo on a running site. Calls `between` while it waits; this may raise `DemoInterrupted`."""

    between: Callable[[], None]

    def person(self) -> tuple[User, str]:
        """Return the demo account, which is created if needed, and a new password."""
        person = accounts.find_or_create_user(email=EMAIL)
        password = secrets.token_urlsafe(9)
        person.set_password(password)
        person.save(update_fields=["password", "updated_at"])
        return person, password

    def upload(self, person: User, *, name: str = FOLDER, source: Path = PHOTOS) -> Folder:
        """Upload missing images to a folder of the account's drive; return the folder."""
        folder = drive.folder_at_top(owner=person, name=name)
        existing = set(folder.files.live().values_list("name", flat=True))
        for path in sorted(source.glob("*.jpg")):
            self.between()
            if path.name not in existing:
                with path.open("rb") as content:
                    services.upload_file(
                        owner=person, folder=folder, name=path.name, content=content, size=path.stat().st_size
                    )
        return folder

    def run(self, person: User, folder: Folder) -> Iterator[DemoRow]:
        """Run each app on the folder and yield its row of results."""
        apps = [app for app in market.list_apps(user=person) if app.owner.handle == PLATFORM_HANDLE]
        if not apps:
            raise DemoError("There are no built-in apps. Run ./manage.py migrate.")
        width = max(len(app.title) for app in apps)
        for app in apps:
            yield self._run_app(person, folder, app, width)

    def run_models(self, person: User) -> Iterator[DemoRow]:
        """Publish each demo model, run it on its own images, and yield its row of results."""
        platform = User.objects.get(handle=PLATFORM_HANDLE)
        for card in sorted(MODELS.glob("*/card.json")):
            self.between()
            home, texts = card.parent, json.loads(card.read_text())
            version = install_model(owner=platform, folder=home / "model", name=home.name, **texts)
            folder = self.upload(person, name=f"Images for {version.listing.title}", source=home)
            yield self._run_app(person, folder, version.listing, len(version.listing.title))

    def try_models(self) -> None:
        """Start trials of models that have none, and create sample results from each model's own images."""
        untried = Weights.objects.filter(versions__listing__owner__handle=PLATFORM_HANDLE, speeds=None)
        for weights_id in untried.order_by("id").distinct().values_list("pk", flat=True):
            send_trial(weights_id=str(weights_id))
        for listing in Listing.objects.filter(owner__handle=PLATFORM_HANDLE, kind=ListingKind.MODEL):
            if pictures := sorted((MODELS / listing.name).glob("*.jpg")):
                show_model(listing=listing, pictures=pictures)

    def _run_app(self, person: User, folder: Folder, app: Listing, width: int) -> DemoRow:
        chosen = drive.select(owner=person, folder_ids=[folder.pk])
        job = processing.submit_job(
            owner=person, version=market.latest_version(app), params={}, selection=chosen
        )
        bar = Bar(app.title.ljust(width), job.total)
        changed, before = time.monotonic(), -1
        while job.state in OPEN:
            self.between()
            done = job.succeeded + job.failed + job.canceled
            bar.show(done)
            if done != before:
                changed, before = time.monotonic(), done
            if time.monotonic() - changed > STALLED_SECONDS:
                raise DemoError(f"'{app.title}' made no progress for {STALLED_SECONDS:.0f} s. See data/logs.")
            time.sleep(POLL_SECONDS)
            job.refresh_from_db()
        bar.show(job.succeeded + job.failed, last=True)
        return _row(app, job)


class Bar:
    """Progress bar: one line that is redrawn on a terminal, two plain lines elsewhere."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        if not self._terminal:
            print(f"{title}  {total} image{'' if total == 1 else 's'} …", flush=True)

    def show(self, done: int, *, last: bool = False) -> None:
        """Draw the bar. `last`: end the line."""
        if not (self._terminal or last):
            return
        full = BAR_WIDTH * done // max(self._total, 1)
        seconds = time.monotonic() - self._began
        line = (
            f"{self._title}  [{'█' * full}{'·' * (BAR_WIDTH - full)}] {done}/{self._total}  {seconds:.1f} s"
        )
        sys.stdout.write(("\r\x1b[K" if self._terminal else "") + line + ("\n" if last else ""))
        sys.stdout.flush()


def table(rows: list[DemoRow]) -> str:
    """Return the results as a plain-text table."""
    head = ("app", "images", "seconds", "images/s", "folder")
    body = [
        (
            row.app,
            f"{row.images}" + (f" ({row.failed} failed)" if row.failed else ""),
            f"{row.seconds:.2f}",
            f"{row.rate:.1f}",
            row.folder,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *body]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *numbers, last = cells
    middle = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *middle, last]).rstrip()


def _row(app: Listing, job: Job) -> DemoRow:
    assert job.completed_at is not None
    return DemoRow(
        app=app.title,
        images=job.succeeded,
        failed=job.total - job.succeeded,
        seconds=(job.completed_at - job.created_at).total_seconds(),
        folder=job.output_folder.name if job.output_folder else "",
    )
