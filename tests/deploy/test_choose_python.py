"""Tests of `deploy/choose_python`: which Python `make setup` uses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHOOSE = Path(__file__).resolve().parents[2] / "deploy/choose_python"


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str, str], str]:
    """Make what stands for a Python: it answers as the script says."""

    def make(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def choose(*candidates: str) -> str:
    done = subprocess.run([CHOOSE, *candidates], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_quicker_one_is_taken(python: Callable[[str, str], str]) -> None:
    slow, quick = python("slow", "echo 15000"), python("quick", "echo 10000")
    assert choose(slow, quick) == choose(quick, slow) == quick


def test_a_little_quicker_is_chance(python: Callable[[str, str], str]) -> None:
    first, second = python("first", "echo 10000"), python("second", "echo 9500")
    assert choose(first, second) == first
    assert choose(second, first) == second


def test_those_that_cannot_run_the_site_are_passed_over(python: Callable[[str, str], str]) -> None:
    assert choose(python("old", "exit 1"), "/none/python3", python("slow", "echo 99000")).endswith("/slow")


def test_where_none_can_the_first_one_tells_why(python: Callable[[str, str], str]) -> None:
    old = python("old", "exit 1")
    assert choose(old, "/none/python3") == old


def test_a_real_one_is_timed() -> None:
    assert choose("/none/python3", sys.executable) == sys.executable
