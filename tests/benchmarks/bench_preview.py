"""What a preview over HTTP costs beyond the operation itself."""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import site
from tests.benchmarks.pictures import load_pictures

NAMES = ("preview.latency",)
TARGET_MS = 15


def main(pictures: int = 200) -> bool:
    """Print the row; return whether the target was met."""
    paths = load_pictures(pictures)
    port = site.free_port()
    with site.running(slots=1, preview=True, web_port=port):
        files = site.fill_drive(paths)
        pairs = _measure(files, [path.read_bytes() for path in paths], port)
    over = sorted(whole - bare for whole, bare in pairs)
    p95 = over[int(len(over) * 0.95)] * 1000
    whole, bare = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    ok = p95 <= TARGET_MS
    print(
        f"{'preview.latency':<24} {p95:5.1f} ms  <= {TARGET_MS} ms {'ok' if ok else 'MISSED'}  "
        f"over the operation: median {statistics.median(over) * 1000:.1f} ms, p95 {p95:.1f} ms; "
        f"whole median {whole:.1f} ms, operation {bare:.1f} ms  n={len(over)}"
    )
    return ok


def _measure(files: Sequence[Any], data: Sequence[bytes], port: int) -> list[tuple[float, float]]:
    """Time each picture's preview over HTTP and its operation alone, in turn (seconds)."""
    from accounts.services import create_api_key
    from workers import engine
    from workers.recipe import Recipe

    secret = create_api_key(user=files[0].owner, name="bench").secret
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    recipe = Recipe.single("blackwhite")
    pairs = []
    for index, (file, content) in enumerate(zip(files, data, strict=True)):
        begun = time.perf_counter()
        connection.request("POST", "/v1/preview/blackwhite", json.dumps({"file": str(file.pk)}), headers)
        answer = connection.getresponse()
        body = answer.read()
        whole = time.perf_counter() - begun
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body!r}")
        begun = time.perf_counter()
        engine.preview(recipe, content)
        bare = time.perf_counter() - begun
        if index >= 10:  # the first ones warm connections and caches
            pairs.append((whole, bare))
    return pairs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    sys.exit(not main(parser.parse_args().pictures))
