"""Commands of a docs page, to be run in one shell beside test images."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from accounts.models import User
from accounts.services import create_api_key
from tests.pictures import picture_bytes

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language on a page below `docs/`."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def environment(url: str, user: User) -> dict[str, str]:
    """Return the variables that the pages ask readers to set."""
    key = create_api_key(user=user, name="docs").secret
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "IPAU": url, "IPAU_API_KEY": key}


def run(script: str, folder: Path, env: dict[str, str], images: Sequence[str]) -> str:
    """Run a script in a folder with these images; return its output. Fails if a command fails."""
    for seed, name in enumerate(images):
        (folder / name).write_bytes(picture_bytes(width=640, height=480, seed=seed))
    command = ["bash", "-c", f"set -euo pipefail\n{script}"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
