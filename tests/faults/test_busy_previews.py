"""Tests of previews: one account with many previews that hang does not affect others."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from accounts.models import User
from accounts.services import create_api_key
from market.models import Listing, Version
from processing.previews import channel
from tests.browser.web import WebServer
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from tests.processing.wait_for_jobs import wait_until

pytestmark = [pytest.mark.worker, pytest.mark.long, pytest.mark.django_db(transaction=True)]

CONNECTIONS = 20
PAGES = 60
SLOTS = 2
# All that previews leave in Valkey while they wait or run.
UNDER_WAY = ("ipau:preview:waiting", "ipau:preview:ready", "ipau:preview:held:*")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    path = tmp_path / "ran"
    path.touch()
    return path


@pytest.fixture
def web(
    celery_worker: Callable[..., LiveWorker], process_env: dict[str, str], tmp_path: Path, ran: Path
) -> Iterator[WebServer]:
    celery_worker(
        queues="preview",
        slots=SLOTS,
        include="tests.processing.worker_with_crashing_operation",
        **{crashing_operation.LOG: str(ran)},
    )
    server = WebServer(
        process_env, tmp_path / "web.log", app="tests.processing.web_with_crashing_operation", threads=16
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Person:
    """A client with a key and connections of its own."""

    def __init__(self, user: User, web: WebServer):
        self.user, self._web = user, web
        self.headers = {"Authorization": f"Bearer {create_api_key(user=user, name='test').secret}"}

    def preview(self, app: str, **sent: object) -> requests.Response:
        return requests.post(f"{self._web.url}/v1/preview/{app}", json=sent, headers=self.headers, timeout=60)

    def list_files(self) -> float:
        """Return the seconds that a list takes."""
        begun = time.monotonic()
        answer = requests.get(f"{self._web.url}/v1/files", headers=self.headers, timeout=60)
        assert answer.status_code == 200
        return time.monotonic() - begun


class Attack:
    """Asks for a preview that never ends over many connections, again as soon as one is answered."""

    def __init__(self, person: Person):
        listing = Listing.objects.create(owner=person.user, name="poison", title="Poison")
        Version.objects.create(
            listing=listing,
            number=1,
            recipe=crashing_operation.RECIPE,
            params_schema=crashing_operation.Poison.Params.model_json_schema(),
        )
        data = picture_bytes("PNG", width=crashing_operation.HANGS, height=40)
        self._file = str(upload(person.user, "hangs.png", data=data).pk)
        self._person = person
        self._over = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CONNECTIONS)]

    def _ask_on(self) -> None:
        while not self._over.is_set():
            answer = self._person.preview(f"{self._person.user.handle}/poison", file=self._file)
            self.answers.append((answer.status_code, answer.headers.get("Retry-After", "")))
            self._over.wait(float(answer.headers.get("Retry-After", 0)))

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when its last request has been answered."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)


def under_way() -> list[bytes]:
    return [key for pattern in UNDER_WAY for key in channel.valkey().keys(pattern)]


def test_previews_that_never_end_hold_up_nobody_else(
    user: User, other_user: User, web: WebServer, ran: Path
) -> None:
    attacker, other = Person(user, web), Person(other_user, web)
    picture = str(upload(other_user).pk)
    assert other.preview("blackwhite", file=picture).status_code == 200
    attack = Attack(attacker)
    attack.begin()
    try:
        wait_until(ran.read_text, "the attack has not begun")
        time.sleep(1)
        pages = [other.list_files() for _ in range(PAGES)]
        times = []
        for contrast in range(1, 9):
            begun = time.monotonic()
            assert other.preview("blackwhite", file=picture, input={"contrast": contrast}).status_code == 200
            times.append(time.monotonic() - begun)
        assert under_way()
    finally:
        attack.end()
    assert statistics.quantiles(pages, n=20)[-1] < 0.5, pages
    assert max(times) < 1, times
    statuses = Counter(attack.answers)
    assert set(statuses) <= {(429, "2"), (422, ""), (504, "")}, statuses
    # Nobody waits any more. What still runs may end, and nothing is begun again.
    begun_by_then = len(ran.read_text().splitlines())
    wait_until(lambda: not under_way(), "something is still under way", seconds=20)
    time.sleep(2)
    assert (len(ran.read_text().splitlines()), under_way()) == (begun_by_then, [])
