"""Entry point of the sandbox process: isolate, read an upload, convert it, write the model and a report.

`workers.sandbox.process` starts it with an empty environment, without access to database or secrets.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.checkpoints.known_networks import explain_unknown
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.sandbox import self_restriction

REPORT = "report.json"
_MOST_LOG = 20_000
_NO_MEMORY = "The conversion needs more memory than it may use."


def main(arguments: Sequence[str]) -> int:
    """Convert one upload. `arguments` is one JSON object: see `workers.sandbox.process`."""
    order = json.loads(arguments[0])
    self_restriction.begin(order)
    path, out = Path(order["path"]), Path(order["out"])
    config = Path(order["config"]) if "config" in order else None
    report = _report_conversion(path, out, config, order["family"])
    (out / REPORT).write_text(json.dumps(report))
    return 0


def _report_conversion(path: Path, out: Path, config: Path | None, family: str | None) -> dict[str, Any]:
    try:
        return _convert(path, out, config, family)
    except Refused as refused:
        return _refuse(refused.code, refused.message)
    except MemoryError:
        return _refuse("memory", _NO_MEMORY)
    except Exception as error:  # noqa: BLE001 - libraries raise any exception on a hostile upload
        if any(mark in str(error) for mark in ("can't allocate memory", "bad_alloc", "Failed to allocate")):
            return _refuse("memory", _NO_MEMORY)
        log = traceback.format_exc()[-_MOST_LOG:]
        text = "The conversion failed: building or running the model raises an error."
        return {**_refuse("failed", text), "log": log}


def _refuse(code: str, sentence: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "sentence": sentence[:1000]}


def _convert(path: Path, out: Path, config: Path | None, family: str | None) -> dict[str, Any]:
    from workers.checkpoints.open import open_upload

    upload = open_upload(path, config)
    chosen = _choose(upload, family)
    from workers import bundle

    converted = chosen.convert(upload)
    digest = bundle.write(converted, out)
    return {
        "ok": True,
        "family": chosen.key,
        "digest": digest,
        "choices": [choice.model_dump() for choice in converted.choices],
        "is_certain": converted.is_certain,
    }


def _choose(upload: WeightsUpload, wanted: str | None) -> Any:
    """Return the family that recognizes these weights. Raises Refused."""
    from workers import registry

    all_families = registry.all_families()
    families = [family for family in all_families if wanted in (None, "", family.key)]
    if not families:
        keys = ", ".join(family.key for family in all_families)
        raise Refused(f"There is no family called “{wanted}”. Choose one of: {keys}.", code="family")
    for family in families:
        if family.recognize(upload) is not None:
            return family
    known = explain_unknown(upload.tensors) if wanted in (None, "", "vit") else None
    if known is not None:
        raise Refused(known, code="unknown")
    if wanted:
        raise Refused(f"These weights do not belong to the family {families[0].title}.", code="family")
    names = ", ".join(family.title for family in families)
    text = f"These weights belong to no supported family ({names}). Try to export the model to ONNX."
    raise Refused(text, code="unknown")
