"""The bombs pass conversion. If it refused them, `make neighbors` and `make chaos` would test nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.inference import bombs
from workers.sandbox import run


@pytest.mark.parametrize("make", [bombs.never_ending, bombs.memory_hog])
def test_a_bomb_passes_its_conversion_at_once(make: Callable[[], bytes], tmp_path: Path) -> None:
    upload = tmp_path / "bomb.onnx"
    upload.write_bytes(make())
    begun = time.monotonic()
    report = run.convert(upload, tmp_path / "made")
    assert report.ok, report
    assert time.monotonic() - begun < 60
