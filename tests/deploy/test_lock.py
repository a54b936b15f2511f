"""Tests of the lock files: all packages are pinned, and all files have a hash."""

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "deploy/uv.lock"]
# Installed by itself: which build fits depends on the machine.
NOT_LOCKED = {"torch"}


def requirements(lock: str) -> dict[str, list[str]]:
    """Return the hashes of each pinned requirement of a lock, by its name."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip()):
        name = re.match(r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==[^ ;]+(?: ;[^\\]+)? \\\n", entry)
        assert name, entry.splitlines()[0]
        found[name[1]] = re.findall(r"--hash=(\S+)", entry)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_file_is_known_by_its_hash(lock: str) -> None:
    for name, hashes in requirements(lock).items():
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name


@pytest.mark.parametrize("lock", LOCKS)
def test_no_address_of_a_registry_is_kept(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-|#)(?!-hash)", re.sub(r"^ +--hash=.*$", "", text, flags=re.MULTILINE), re.M)


def test_all_that_the_project_names_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=!~ ;]", one)[0].lower().replace("_", "-") for one in named}
    assert names - NOT_LOCKED <= set(requirements("requirements.lock"))
    assert not NOT_LOCKED & set(requirements("requirements.lock"))


def test_what_installs_the_lock_is_locked_in_the_version_that_the_makefile_names() -> None:
    version = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version
    assert (ROOT / "deploy/uv.lock").read_text().startswith(f"uv=={version[1]} ")


def test_setup_checks_the_hashes() -> None:
    words = [
        "make",
        "--dry-run",
        "--always-make",
        "--no-print-directory",
        "setup",
        "PYTHON=true",
        "VENV=.none",
    ]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line for line in said.splitlines() if "pip install" in line]
    torch = [line for line in installs if "torch" in line]
    assert len(torch) == 1
    assert installs[-1] == torch[0]
    assert len(installs) == 3
    assert all("--no-deps --require-hashes -r " in line for line in installs[:-1])


@pytest.mark.parametrize("is_known", [True, False])
def test_a_file_with_another_hash_is_not_installed(tmp_path: Path, is_known: bool) -> None:
    """Tried with a package that is made here, as `make setup` installs: no registry is asked."""
    wheel = tmp_path / "harmless-1-py3-none-any.whl"
    _write_wheel(wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if is_known else "0" * 64
    lock = tmp_path / "lock.txt"
    lock.write_text(f"harmless==1 --hash=sha256:{digest}\n")
    words = [ROOT / ".venv/bin/uv", "pip", "install", "--no-deps", "--require-hashes", "-r", lock]
    options = ["--no-index", "--find-links", tmp_path, "--target", tmp_path / "out"]
    done = subprocess.run(
        [*words, *options, "--python", sys.executable], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is is_known, done.stderr
    assert is_known or "hash" in done.stderr.lower()
    assert (tmp_path / "out/harmless.py").exists() is is_known


def _write_wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("harmless.py", "")
        wheel.writestr("harmless-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1\n")
        wheel.writestr(
            "harmless-1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("harmless-1.dist-info/RECORD", "")
