"""Fakes of the sandbox and the trial: the market handles their reports the same way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.market.factories import bundle_bytes
from workers.bundle import FACTS
from workers.engine import ThumbnailResult
from workers.media.picture import Picture, encode_thumbnail
from workers.sandbox import run
from workers.sandbox.run import Report
from workers.trials import launch
from workers.trials.launch import DetectedClass, Trial, TrialSample

Convert = Callable[..., Report]


def accepting(sure: tuple[int, ...] = (90, 40), **facts: Any) -> Convert:
    """Return a `convert` that accepts any file."""

    def convert(path: Path, out: Path, **_: Any) -> Report:
        out.mkdir(exist_ok=True)
        files = bundle_bytes(sure, **facts)
        for name, content in files.items():
            (out / name).write_bytes(content)
        return report(facts=json.loads(files[FACTS]))

    return convert


def refusing(sentence: str = "This file names code to run: os.system.", code: str = "pickle") -> Convert:
    """Return a `convert` that refuses any file and leaves an incomplete model."""

    def convert(path: Path, out: Path, **_: Any) -> Report:
        out.mkdir(exist_ok=True)
        (out / FACTS).write_bytes(b"{")
        return report(ok=False, code=code, sentence=sentence)

    return convert


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "ok": True,
        "code": "",
        "sentence": "",
        "family": "marks",
        "title": "Marks detector",
        "facts": {},
        "digest": "",
        "checks": ({"name": "reading", "ok": True, "detail": "Read as data."},),
        "isolation": {"bubblewrap": True, "network": True},
        "seconds": 1.5,
        "scans": (),
        **changes,
    }
    return Report(**fields)


def tried(**changes: Any) -> Trial:
    """Return the trial of a model that detects a cat."""
    fields: dict[str, Any] = {
        "first_ms": 310.4,
        "each_ms": 45.2,
        "runs": 9,
        "width": 450,
        "height": 300,
        "shown": (
            TrialSample(
                small("white"), small("red"), (DetectedClass(name="cat", count=2),), "The face of a cat"
            ),
            TrialSample(small("gray"), None, (DetectedClass(name="dog", confidence=0.875),)),
        ),
        **changes,
    }
    return Trial(**fields)


def small(color: str) -> ThumbnailResult:
    drawn = encode_thumbnail(Image.new("RGB", (45, 30), color), 45)
    facts = Picture.open(drawn.data).facts
    return ThumbnailResult(drawn.data, drawn.width, drawn.height, facts)


def use(monkeypatch: pytest.MonkeyPatch, convert: Convert, outcome: Trial | None = None) -> None:
    """Replace the sandbox of this process by `convert`, and trials by this outcome."""
    monkeypatch.setattr(run, "convert", convert)
    monkeypatch.setattr(launch, "try_model", lambda _folder, **_: outcome or tried())
