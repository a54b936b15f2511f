"""What runs in the process of the sandbox: shut in, read, recognise, convert, write, report.

Started by `workers.sandbox.process` with an empty environment. It has nothing to lose: no database, no keys.
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
_NO_MEMORY = "It needs more memory than a conversion may take."


def main(arguments: Sequence[str]) -> int:
    """Convert one upload. `arguments` is one JSON object: see `workers.sandbox.process`."""
    order = json.loads(arguments[0])
    self_restriction.begin(order)
    path, out = Path(order["path"]), Path(order["out"])
    config = Path(order["config"]) if "config" in order else None
    report = _attempt(path, out, config, order["family"])
    (out / REPORT).write_text(json.dumps(report))
    return 0


def _attempt(path: Path, out: Path, config: Path | None, family: str | None) -> dict[str, Any]:
    try:
        return _convert(path, out, config, family)
    except Refused as refused:
        return _refuse(refused.code, refused.message)
    except MemoryError:
        return _refuse("memory", _NO_MEMORY)
    except Exception as error:  # noqa: BLE001 - libraries fail in any way on what an upload makes of them
        if any(mark in str(error) for mark in ("can't allocate memory", "bad_alloc", "Failed to allocate")):
            return _refuse("memory", _NO_MEMORY)
        log = traceback.format_exc()[-_MOST_LOG:]
        text = "It could not be converted: the model fails when it is built or run."
        return {**_refuse("failed", text), "log": log}


def _refuse(code: str, sentence: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "sentence": sentence[:1000]}


def _convert(path: Path, out: Path, config: Path | None, family: str | None) -> dict[str, Any]:
    from workers.checkpoints.open import open_upload

    upload = open_upload(path, config)
    chosen = _choose(upload, family)
    from workers import bundle

    made = chosen.convert(upload)
    digest = bundle.write(made, out)
    return {
        "ok": True,
        "family": chosen.key,
        "digest": digest,
        "choices": [choice.model_dump() for choice in made.choices],
        "is_certain": made.is_certain,
    }


def _choose(upload: WeightsUpload, wanted: str | None) -> Any:
    """Return the family that knows these weights."""
    from workers import registry

    all_families = registry.all_families()
    families = [family for family in all_families if wanted in (None, "", family.key)]
    if not families:
        keys = ", ".join(family.key for family in all_families)
        raise Refused(f"There is no family called “{wanted}”. There are: {keys}.", code="family")
    for family in families:
        if family.recognise(upload) is not None:
            return family
    known = explain_unknown(upload.tensors) if wanted in (None, "", "vit") else None
    if known is not None:
        raise Refused(known, code="unknown")
    if wanted:
        raise Refused(f"These are no weights of the family {families[0].title}.", code="family")
    names = ", ".join(family.title for family in families)
    text = f"These weights are of no family that runs here ({names}). Many others can be exported as ONNX."
    raise Refused(text, code="unknown")
