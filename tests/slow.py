"""Which tests `make test-fast` leaves out, and why.

A test is slow by what it uses, by the folder that it lies in, or by a marker with a written reason:
`@pytest.mark.slow("trains a model")`.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
FIXTURES = {
    "browser": "drives Chromium",
    "celery_worker": "starts Celery workers",
    "process_env": "starts a process with the whole site in it",
    "endpoint": "starts a server for a bucket",
}
FOLDERS = {
    "browser": "drives Chromium",
    "deploy": "starts web servers, or trains models",
    "faults": "does harm to processes",
    "workers/families": "rebuilds networks with torch",
    "workers/inference": "runs networks in processes of their own",
    "workers/nets": "rebuilds networks with torch",
    "workers/sandbox": "starts processes that convert",
}
MARKERS = {
    "browser": "drives Chromium",
    "worker": "starts Celery workers",
    "long": "takes about a minute",
    "alone": "wants the machine for itself",
}


def reason_of(item: pytest.Item) -> str:
    """Return why a test is slow; empty where it is not.

    Raises:
        pytest.UsageError: its marker `slow` has no reason.
    """
    if marker := item.get_closest_marker("slow"):
        if not (marker.args and str(marker.args[0]).strip()):
            raise pytest.UsageError(f"{item.nodeid}: say why it is slow: @pytest.mark.slow(reason)")
        return str(marker.args[0])
    used = getattr(item, "fixturenames", ())
    folder = item.path.parent.relative_to(ROOT).as_posix() if item.path.is_relative_to(ROOT) else ""
    reasons = [
        *(reason for name, reason in MARKERS.items() if item.get_closest_marker(name)),
        *(reason for name, reason in FIXTURES.items() if name in used),
        *(reason for name, reason in FOLDERS.items() if f"{folder}/".startswith(f"{name}/")),
    ]
    return reasons[0] if reasons else ""


def mark(items: list[pytest.Item]) -> None:
    """Give the marker `slow`, with its reason, to all tests that are."""
    for item in items:
        if reason := reason_of(item):
            item.add_marker(pytest.mark.slow(reason))
