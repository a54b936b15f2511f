"""Run the commands of docs/tutorials/first-api-call.md, in order, in one shell."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from accounts.services import create_api_key
from tests.live import LiveWorker
from tests.pictures import picture_bytes

pytestmark = pytest.mark.worker
PAGE = Path(__file__).resolve().parents[2] / "docs/tutorials/first-api-call.md"


def test_every_command_works_as_written(
    transactional_db: None,
    live_server: Any,
    user: User,
    celery_worker: Callable[..., LiveWorker],
    tmp_path: Path,
) -> None:
    celery_worker()
    for seed, name in enumerate(("photo.jpg", "second.jpg")):
        (tmp_path / name).write_bytes(picture_bytes(width=640, height=480, seed=seed))
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "IPAU": live_server.url,
        "IPAU_API_KEY": create_api_key(user=user, name="tutorial").secret,
    }
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pixelart.png").read_bytes().startswith(b"\x89PNG")
    results = done.stdout.split()
    assert len(results) == 2
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in results)
