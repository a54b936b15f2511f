"""Which tests `make test-fast` leaves out."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import slow

MakeItem = Callable[..., pytest.Function]


@pytest.fixture
def item_of(request: pytest.FixtureRequest) -> MakeItem:
    """Return a way to make a test of a function: `item_of(function, folder="browser")`."""

    def made(function: Callable[..., None], *, folder: str = "drive") -> pytest.Function:
        item: pytest.Function = pytest.Function.from_parent(
            request.node.parent, name="test_made", callobj=function
        )
        item.path = slow.ROOT / folder / "test_made.py"
        return item

    return made


def plain(tmp_path: Path) -> None:
    """A test that needs nothing slow."""


def drives_a_browser(signed_in_page: Any, browser: Any) -> None:
    """A test of a page."""


def starts_a_worker(celery_worker: Any) -> None:
    """A test of a worker."""


def starts_a_server(process_env: Any) -> None:
    """A test of a web server."""


def uses_a_bucket(bucket: Any) -> None:
    """A test whose bucket needs a server, by another fixture."""


def test_what_needs_nothing_slow_is_quick(item_of: MakeItem) -> None:
    item = item_of(plain)
    slow.mark([item])
    assert item.get_closest_marker("slow") is None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (drives_a_browser, "drives Chromium"),
        (starts_a_worker, "starts Celery workers"),
        (starts_a_server, "starts a process with the whole site in it"),
        (uses_a_bucket, "starts a server for a bucket"),
    ],
)
def test_fixtures_make_a_test_slow(item_of: MakeItem, function: Callable[..., None], reason: str) -> None:
    item = item_of(function)
    slow.mark([item])
    marker = item.get_closest_marker("slow")
    assert marker is not None
    assert marker.args == (reason,)


@pytest.mark.parametrize("folder", sorted(slow.FOLDERS))
def test_folders_make_a_test_slow(item_of: MakeItem, folder: str) -> None:
    assert slow.reason_of(item_of(plain, folder=folder))
    assert slow.reason_of(item_of(plain, folder=f"{folder}/deeper"))
    assert not slow.reason_of(item_of(plain, folder=f"{folder}er"))
    assert (slow.ROOT / folder).is_dir()


@pytest.mark.parametrize("name", sorted(slow.MARKERS))
def test_markers_make_a_test_slow(item_of: MakeItem, name: str) -> None:
    item = item_of(plain)
    item.add_marker(name)
    assert slow.reason_of(item) == slow.MARKERS[name]


def test_the_marker_slow_needs_a_reason(item_of: MakeItem) -> None:
    item = item_of(plain)
    item.add_marker(pytest.mark.slow("trains a model"))
    assert slow.reason_of(item) == "trains a model"
    without = item_of(plain)
    without.add_marker(pytest.mark.slow(" "))
    with pytest.raises(pytest.UsageError, match="say why"):
        slow.reason_of(without)


@pytest.mark.slow("collects tests in a process of its own")
def test_the_quick_run_leaves_them_out() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "not slow",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    folders = ["tests/browser", "tests/faults", "tests/architecture"]
    done = subprocess.run(
        [*command, *folders], cwd=slow.ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    chosen = {line.split("/")[1] for line in done.stdout.splitlines() if "::" in line}
    assert chosen == {"architecture"}
    assert "test_the_quick_run_leaves_them_out" not in done.stdout
