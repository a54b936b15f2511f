"""Tests of a bucket that accepts connections but never answers: other pages work normally."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from accounts.models import User
from accounts.services import create_api_key
from tests.browser.web import WebServer
from tests.drive.factories import upload

pytestmark = [pytest.mark.django_db(transaction=True)]

CONNECTIONS = 24
THREADS = 16


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts what comes and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web(process_env: dict[str, str], tmp_path: Path, silent: str) -> Iterator[WebServer]:
    bucket = {
        "IPAU_S3_BUCKET": "pictures",
        "IPAU_S3_ENDPOINT": silent,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = WebServer({**process_env, **bucket}, tmp_path / "web.log", threads=THREADS)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def test_a_bucket_that_is_silent_leaves_threads_for_pages(
    user: User, other_user: User, web: WebServer
) -> None:
    path = f"{web.url}/v1/files/{upload(user).pk}/content"
    keys = [
        {"Authorization": f"Bearer {create_api_key(user=person, name='test').secret}"}
        for person in (user, other_user)
    ]
    refused: Counter[int] = Counter()

    def download() -> None:
        # Those that are not refused end with the server.
        with contextlib.suppress(requests.RequestException):
            refused[requests.get(path, headers=keys[0], timeout=60).status_code] += 1

    threads = [threading.Thread(target=download) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    times = []
    for _ in range(20):
        begun = time.monotonic()
        assert requests.get(f"{web.url}/v1/files", headers=keys[1], timeout=60).status_code == 200
        times.append(time.monotonic() - begun)
    assert max(times) < 1, times
    assert sorted(times)[-2] < 0.5, times
    assert set(refused) <= {429, 503}
    assert sum(refused.values()) >= CONNECTIONS - THREADS * 3 // 4
    web.kill()
    for thread in threads:
        thread.join(10)
