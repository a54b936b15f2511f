"""Run the commands of docs/reference/api.md, in order, in one shell."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from accounts.services import create_api_key
from drive.models import File
from tests.live import LiveWorker
from tests.pictures import picture_bytes

pytestmark = pytest.mark.worker
GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "api.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_command_works_as_written(
    transactional_db: None,
    live_server: Any,
    user: User,
    celery_worker: Callable[..., LiveWorker],
    tmp_path: Path,
) -> None:
    celery_worker()
    for seed, name in enumerate(("sea.jpg", "hill.jpg")):
        (tmp_path / name).write_bytes(picture_bytes(width=640, height=480, seed=seed))
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "IPAU": live_server.url,
        "IPAU_API_KEY": create_api_key(user=user, name="guide").secret,
    }

    # Print a line after each command, to separate the responses.
    script = "set -euo pipefail\n" + "\necho\n".join(blocks("sh"))
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    # The only problem is the intended one, and it matches the guide.
    assert output.count('"about:blank#') == 1
    problem = json.loads(blocks("json")[0])
    assert json.loads(output[output.index('{"type":"about:blank#') :].strip()) == problem
    assert '"status":"succeeded"' in output
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "again.jpg").read_bytes() == (tmp_path / "sea.jpg").read_bytes()
    first, second = re.findall(r"^([0-9a-f-]{36})$", output, re.MULTILINE)
    assert first == second

    env |= {"REPLICATE_BASE_URL": env["IPAU"], "REPLICATE_API_TOKEN": env["IPAU_API_KEY"]}
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sea-gray.jpg").read_bytes().startswith(b"\xff\xd8")
    assert len(done.stdout.splitlines()[0]) == 60
    assert File.objects.filter(owner=user, folder__name="Predictions").exists()
