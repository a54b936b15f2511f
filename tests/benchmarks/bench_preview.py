"""Benchmark: overhead of a preview over HTTP, compared with the operation or a loaded model alone."""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.benchmarks import site
from tests.benchmarks.pictures import load_pictures

TARGET_MS = 15

T = TypeVar("T")


def app(files: Sequence[Any], data: Sequence[bytes], port: int) -> bool:
    """A built-in app's."""
    from workers import engine
    from workers.recipe import Recipe

    recipe = Recipe.single("blackwhite")
    path = "/v1/preview/blackwhite"
    return _print("preview.latency", _measure(files, data, port, path, lambda d: engine.preview(recipe, d)))


def model(files: Sequence[Any], data: Sequence[bytes], port: int) -> bool:
    """The demo's detector's, which both sides keep loaded."""
    from accounts.models import PLATFORM_HANDLE
    from processing.execution.model_files import models_of
    from workers import engine
    from workers.cache import PROCESS_CACHE
    from workers.plugin import Context
    from workers.recipe import Recipe

    version = site.install_model()
    recipe = Recipe.model_validate(version.recipe)
    context = Context(models=models_of(recipe), memo=PROCESS_CACHE)
    path = f"/v1/preview/{PLATFORM_HANDLE}/{site.DETECTOR}"
    times = _measure(files, data, port, path, lambda d: engine.preview(recipe, d, context))
    return _print("preview.latency.model", times)


ROWS: Mapping[str, Callable[[Sequence[Any], Sequence[bytes], int], bool]] = {
    "preview.latency": app,
    "preview.latency.model": model,
}


def main(chosen: Sequence[str], pictures: int) -> bool:
    """Print the rows; return whether the targets were met."""
    paths = load_pictures(pictures)
    port = site.free_port()
    with site.running(slots=1, preview=True, web_port=port):
        files, data = site.fill_drive(paths), [path.read_bytes() for path in paths]
        met = [_watched(partial(ROWS[name], files, data, port)) for name in chosen]
    return all(met)


def _watched(row: Callable[[], bool]) -> bool:
    """Tell besides how much of the processors' time the host gave to others: from a few per cent on, that is
    what the slowest requests show."""
    before = _ticks()
    met = row()
    stolen, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    print(f"{'':<24} the host gave {stolen / total:.1%} of the processors' time to others", flush=True)
    return met


def _ticks() -> tuple[int, int]:
    """Return how long others had the processors, and how long there was, since the machine started."""
    counts = [int(count) for count in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return counts[7], sum(counts)


@dataclass(frozen=True)
class Times:
    """Seconds of one picture: over HTTP, in the operation within that, and alone in this process."""

    whole: float
    operation: float
    alone: float

    @property
    def over(self) -> float:
        return self.whole - self.operation


def _measure(
    files: Sequence[Any], data: Sequence[bytes], port: int, path: str, bare: Callable[[bytes], object]
) -> list[Times]:
    """Time each picture's preview over HTTP, and before or after it, in turn, what it shows alone."""
    from accounts.services import create_api_key

    secret = create_api_key(user=files[0].owner, name="bench").secret
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(file: Any) -> float:
        """Return the seconds of the operation, of which the answer tells."""
        connection.request("POST", path, json.dumps({"file": str(file.pk)}), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body!r}")
        stages = answer.getheader("Server-Timing", "").split(", ")
        return sum(float(stage.partition("dur=")[2]) for stage in stages) / 1000

    times = []
    for turn, (file, content) in enumerate(zip(files, data, strict=True)):
        # In turn first and second: the second finds the picture in the processor's caches.
        if turn % 2:
            alone, _ = _time(bare, content)
            whole, operation = _time(ask, file)
        else:
            whole, operation = _time(ask, file)
            alone, _ = _time(bare, content)
        if turn >= 10:  # the first ones warm connections, caches and models
            times.append(Times(whole, operation, alone))
    return times


def _time(call: Callable[[Any], T], argument: object) -> tuple[float, T]:
    begun = time.perf_counter()
    given = call(argument)
    return time.perf_counter() - begun, given


def _print(name: str, times: Sequence[Times]) -> bool:
    """Hold to the target what a request takes beyond the operation that ran in it.

    The operation alone, timed before or after, would not do: where other work shares the machine, that of a
    large picture differs from itself by as much as the target. What it would say is printed too, and whether
    the operation takes longer in a worker than alone.
    """
    p95 = _p95(each.over for each in times)
    beside = _p95(each.whole - each.alone for each in times)
    over, whole, alone = (
        statistics.median(values) * 1000
        for values in zip(*((each.over, each.whole, each.alone) for each in times), strict=True)
    )
    ratio = statistics.median(each.operation / each.alone for each in times)
    ok = p95 <= TARGET_MS
    print(
        f"{name:<24} {p95:5.1f} ms  <= {TARGET_MS} ms {'ok' if ok else 'MISSED'}  "
        f"over the operation: median {over:.1f} ms, p95 {p95:.1f} ms; whole median {whole:.1f} ms; "
        f"operation {ratio:.2f} of its time alone, {alone:.1f} ms, and over that p95 {beside:.1f} ms  "
        f"n={len(times)}",
        flush=True,
    )
    return ok


def _p95(values: Iterable[float]) -> float:
    """Return the 95th percentile, in thousandths of the unit."""
    ordered = sorted(values)
    return ordered[int(len(ordered) * 0.95)] * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", action="append", choices=ROWS)
    options = parser.parse_args()
    sys.exit(not main(options.only or list(ROWS), options.pictures))
