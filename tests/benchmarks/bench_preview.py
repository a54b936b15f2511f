"""What a preview over HTTP costs beyond the operation itself, and beyond a model that is loaded already."""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks import site
from tests.benchmarks.pictures import load_pictures

TARGET_MS = 15


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
    from processing.stored import models_of
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
        met = [ROWS[name](files, data, port) for name in chosen]
    return all(met)


def _measure(
    files: Sequence[Any], data: Sequence[bytes], port: int, path: str, bare: Callable[[bytes], object]
) -> list[tuple[float, float]]:
    """Time each picture's preview over HTTP and what it shows alone, in turn (seconds)."""
    from accounts.services import create_api_key

    secret = create_api_key(user=files[0].owner, name="bench").secret
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    pairs = []
    for index, (file, content) in enumerate(zip(files, data, strict=True)):
        begun = time.perf_counter()
        connection.request("POST", path, json.dumps({"file": str(file.pk)}), headers)
        answer = connection.getresponse()
        body = answer.read()
        whole = time.perf_counter() - begun
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body!r}")
        begun = time.perf_counter()
        bare(content)
        alone = time.perf_counter() - begun
        if index >= 10:  # the first ones warm connections, caches and models
            pairs.append((whole, alone))
    return pairs


def _print(name: str, pairs: Sequence[tuple[float, float]]) -> bool:
    over = sorted(whole - bare for whole, bare in pairs)
    p95 = over[int(len(over) * 0.95)] * 1000
    whole, bare = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    ok = p95 <= TARGET_MS
    print(
        f"{name:<24} {p95:5.1f} ms  <= {TARGET_MS} ms {'ok' if ok else 'MISSED'}  "
        f"over the operation: median {statistics.median(over) * 1000:.1f} ms, p95 {p95:.1f} ms; "
        f"whole median {whole:.1f} ms, operation {bare:.1f} ms  n={len(over)}",
        flush=True,
    )
    return ok


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", action="append", choices=ROWS)
    options = parser.parse_args()
    sys.exit(not main(options.only or list(ROWS), options.pictures))
