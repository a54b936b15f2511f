"""A stand-in for the sandbox: what the market does with its report is the same whatever made it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.market.models import bundle_bytes
from workers.weights import sandbox
from workers.weights.bundle import FACTS
from workers.weights.sandbox import Report

Convert = Callable[..., Report]


def accepting(sure: tuple[int, ...] = (90, 40), **facts: Any) -> Convert:
    """Return a `convert` that makes a model of whatever it is given."""

    def convert(path: Path, out: Path, **_: Any) -> Report:
        out.mkdir(exist_ok=True)
        files = bundle_bytes(sure, **facts)
        for name, content in files.items():
            (out / name).write_bytes(content)
        return report(facts=json.loads(files[FACTS]))

    return convert


def refusing(sentence: str = "This file names code to run: os.system.", code: str = "pickle") -> Convert:
    """Return a `convert` that refuses whatever it is given, and leaves half a model behind."""

    def convert(path: Path, out: Path, **_: Any) -> Report:
        out.mkdir(exist_ok=True)
        (out / FACTS).write_bytes(b"{")
        return report(ok=False, code=code, sentence=sentence)

    return convert


def report(**changes: Any) -> Report:
    given: dict[str, Any] = {
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
    return Report(**given)


def use(monkeypatch: pytest.MonkeyPatch, convert: Convert) -> None:
    """Have conversions of this process done by `convert`."""
    monkeypatch.setattr(sandbox, "convert", convert)
