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
from drive.models import File
from tests.api import doc_commands
from tests.live import LiveWorker

pytestmark = pytest.mark.worker
GUIDE = "reference/api.md"


def test_every_command_works_as_written(
    transactional_db: None,
    live_server: Any,
    user: User,
    celery_worker: Callable[..., LiveWorker],
    tmp_path: Path,
) -> None:
    celery_worker()
    env = doc_commands.environment(live_server.url, user)
    # Print a line after each command, to separate the responses.
    script = "\necho\n".join(doc_commands.blocks(GUIDE, "sh"))
    output = doc_commands.run(script, tmp_path, env, ["sea.jpg", "hill.jpg"])
    # The only problem is the intended one, and it matches the guide.
    assert output.count('"about:blank#') == 1
    problem = json.loads(doc_commands.blocks(GUIDE, "json")[0])
    assert json.loads(output[output.index('{"type":"about:blank#') :].strip()) == problem
    assert '"status":"succeeded"' in output
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "again.jpg").read_bytes() == (tmp_path / "sea.jpg").read_bytes()
    first, second = re.findall(r"^([0-9a-f-]{36})$", output, re.MULTILINE)
    assert first == second

    env |= {"REPLICATE_BASE_URL": env["IPAU"], "REPLICATE_API_TOKEN": env["IPAU_API_KEY"]}
    code = doc_commands.blocks(GUIDE, "python")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sea-gray.jpg").read_bytes().startswith(b"\xff\xd8")
    assert len(done.stdout.splitlines()[0]) == 60
    assert File.objects.filter(owner=user, folder__name="Predictions").exists()
