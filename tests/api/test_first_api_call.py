"""Run the commands of docs/tutorials/first-api-call.md, in order, in one shell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from tests.api import doc_commands
from tests.live import LiveWorker

pytestmark = pytest.mark.worker
PAGE = "tutorials/first-api-call.md"


def test_every_command_works_as_written(
    transactional_db: None,
    live_server: Any,
    user: User,
    celery_worker: Callable[..., LiveWorker],
    tmp_path: Path,
) -> None:
    celery_worker()
    env = doc_commands.environment(live_server.url, user)
    script = "\n".join(doc_commands.blocks(PAGE, "sh"))
    results = doc_commands.run(script, tmp_path, env, ["photo.jpg", "second.jpg"]).split()
    assert (tmp_path / "pixelart.png").read_bytes().startswith(b"\x89PNG")
    assert len(results) == 2
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in results)
