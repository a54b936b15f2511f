"""What runs in the process of a trial: the model by the real engine, over our pictures, by the clock.

Started by `workers.sandbox.process`. The files are ours, but an uploaded graph is still a stranger's.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.sandbox import self_restriction
from workers.thumbnail_sizes import SAMPLE_SIDE
from workers.trials import samples

REPORT = "trial.json"
MOST_SEEN = 5
_LEAST_RUNS, _MOST_RUNS = 3, 9


def main(arguments: Sequence[str]) -> int:
    """Try one model. `arguments` is one JSON object: see `workers.sandbox.process`."""
    order = json.loads(arguments[0])
    self_restriction.begin(order)
    given = sorted(Path(order["pictures"]).iterdir()) if "pictures" in order else []
    _try(Path(order["model"]), Path(order["out"]), order["seconds"], [path.read_bytes() for path in given])
    return 0


def _try(folder: Path, out: Path, seconds: float, given: Sequence[bytes]) -> None:
    """Write what is known after each picture, given or ours: where the time is up, it is what there is."""
    from workers import engine
    from workers.bundle import FolderModel
    from workers.plugin import Context, OperationError
    from workers.recipe import Recipe

    model = FolderModel(folder)
    recipe = Recipe.single(model.facts["family"], weights=model.key)
    context = Context(models={model.key: model}, is_shut_in=True)
    pictures = given or samples.pictures_for(model.facts)
    _load_libraries(pictures[0])
    began = time.monotonic()
    times: list[float] = []
    kept: list[dict[str, Any]] = []
    for number in range(_MOST_RUNS):
        is_enough = number >= max(len(pictures), _LEAST_RUNS)
        if is_enough and time.monotonic() - began > seconds:
            break
        data = pictures[number % len(pictures)]
        started = time.perf_counter()
        try:
            outcome = engine.run(recipe, data, context, with_thumbnail=False)
        except OperationError as error:
            _write(out, {"sentence": error.message, "times": times, "samples": kept})
            return
        times.append((time.perf_counter() - started) * 1000)
        if number < len(pictures):
            kept.append({"picture": number, **_keep(outcome, out, number, model.facts)})
        _write(out, {"sentence": "", "times": times, "samples": kept})


def _load_libraries(picture: bytes) -> None:
    """Do what a slot has done that ran another model before: that is no part of this one's first picture."""
    import onnxruntime  # noqa: F401

    from workers import engine
    from workers.recipe import Recipe

    engine.run(Recipe.single("blackwhite"), picture)


def _keep(outcome: Any, out: Path, number: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the picture that was made, reduced, and return what was found."""
    from workers import engine

    seen = _sum_up(outcome.data)
    made = next((file for file in outcome.files if file.width), None)
    # A classifier's result is the picture as it was.
    if made is None or facts["task"] == "classify":
        return {"file": "", "seen": seen}
    name = f"{number}.webp"
    (out / name).write_bytes(engine.thumbnail(made.data, SAMPLE_SIDE).data)
    return {"file": name, "seen": seen}


def _sum_up(data: Any) -> list[dict[str, Any]]:
    """Return the surest classes of a classifier with how sure it is, or how often a finder found each."""
    if not isinstance(data, dict):
        return []
    found = data.get("predictions", [])
    if "top" in data:
        return [{"name": one["class"], "confidence": one["confidence"]} for one in found[:MOST_SEEN]]
    counts = Counter(str(one["class"]) for one in found)
    return [{"name": name, "count": count} for name, count in counts.most_common(MOST_SEEN)]


def _write(out: Path, report: Mapping[str, Any]) -> None:
    beside = out / f".{REPORT}"
    beside.write_text(json.dumps(report))
    os.replace(beside, out / REPORT)
