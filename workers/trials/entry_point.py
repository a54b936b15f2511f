"""Entry point of the trial process: run a model on sample images with the real engine, and time it.

`workers.sandbox.process` starts it, because an uploaded graph stays untrusted after conversion.
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
    """Run one model's trial. `arguments` is one JSON object: see `workers.sandbox.process`."""
    order = json.loads(arguments[0])
    self_restriction.begin(order)
    paths = sorted(Path(order["pictures"]).iterdir()) if "pictures" in order else []
    _try(Path(order["model"]), Path(order["out"]), order["seconds"], [path.read_bytes() for path in paths])
    return 0


def _try(folder: Path, out: Path, seconds: float, images: Sequence[bytes]) -> None:
    """Run the model on `images` or the samples. Write the report after each one, in case of a timeout."""
    from workers import engine
    from workers.bundle import FolderModel
    from workers.plugin import Context, OperationError
    from workers.recipe import Recipe

    model = FolderModel(folder)
    recipe = Recipe.single(model.facts["family"], weights=model.key)
    context = Context(models={model.key: model}, is_shut_in=True)
    images = images or samples.images_for(model.facts)
    _load_libraries(images[0])
    began = time.monotonic()
    times: list[float] = []
    results: list[dict[str, Any]] = []
    for number in range(_MOST_RUNS):
        is_enough = number >= max(len(images), _LEAST_RUNS)
        if is_enough and time.monotonic() - began > seconds:
            break
        data = images[number % len(images)]
        started = time.perf_counter()
        try:
            outcome = engine.run(recipe, data, context, with_thumbnail=False)
        except OperationError as error:
            _write(out, {"sentence": error.message, "times": times, "samples": results})
            return
        times.append((time.perf_counter() - started) * 1000)
        if number < len(images):
            results.append({"picture": number, **_save(outcome, out, number, model.facts)})
        _write(out, {"sentence": "", "times": times, "samples": results})


def _load_libraries(image: bytes) -> None:
    """Import libraries as earlier jobs of a slot have done, so that the first image's time excludes it."""
    import onnxruntime  # noqa: F401

    from workers import engine
    from workers.recipe import Recipe

    engine.run(Recipe.single("blackwhite"), image)


def _save(outcome: Any, out: Path, number: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the reduced result image, and return its name and the classes."""
    from workers import engine

    seen = _sum_up(outcome.data)
    image = next((file for file in outcome.files if file.width), None)
    # A classifier returns the input image unchanged.
    if image is None or facts["task"] == "classify":
        return {"file": "", "seen": seen}
    name = f"{number}.webp"
    (out / name).write_bytes(engine.thumbnail(image.data, SAMPLE_SIDE).data)
    return {"file": name, "seen": seen}


def _sum_up(data: Any) -> list[dict[str, Any]]:
    """Return a classifier's top classes with confidence, or a detector's classes with counts."""
    if not isinstance(data, dict):
        return []
    predictions = data.get("predictions", [])
    if "top" in data:
        return [{"name": one["class"], "confidence": one["confidence"]} for one in predictions[:MOST_SEEN]]
    counts = Counter(str(one["class"]) for one in predictions)
    return [{"name": name, "count": count} for name, count in counts.most_common(MOST_SEEN)]


def _write(out: Path, report: Mapping[str, Any]) -> None:
    temporary = out / f".{REPORT}"
    temporary.write_text(json.dumps(report))
    os.replace(temporary, out / REPORT)
