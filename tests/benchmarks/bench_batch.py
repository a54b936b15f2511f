"""Benchmark: a job through the whole system, against plain Pillow processes on the same images."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from tests.benchmarks import jobs, site
from tests.benchmarks.pictures import load_pictures

NAMES = ("batch.throughput",)
SLOTS = 2
# One a round: each time the results are others, so that the system writes them again as the pools do.
QUALITIES = (90, 89, 91)
# A worker of a pool gets the path of a picture, the folder of results and their quality.
Task = tuple[str, str, int]


def main(pictures: int = 500) -> bool:
    """Print the rows; return whether all targets were met."""
    paths = load_pictures(pictures)
    with site.running(slots=SLOTS) as folder:
        files = site.fill_drive(paths)
        stored = [folder / "blobs" / file.blob.path for file in files]
        times: dict[str, list[float]] = {"bare": [], "engine": [], "system": []}
        jobs.time_of(files[:20])
        for quality in QUALITIES:
            times["bare"].append(_run_pool(_bare, stored, quality))
            times["system"].append(jobs.time_of(files, quality=quality))
            times["engine"].append(_run_pool(_engine, stored, quality))
    ratios = {
        name: statistics.median(b / s for b, s in zip(times[name], times["system"], strict=True))
        for name in ("bare", "engine")
    }
    ok = ratios["bare"] >= 0.95
    per = {name: statistics.median(found) / len(files) * 1000 for name, found in times.items()}
    spent = "  ".join(f"{name} {ms:.1f} ms" for name, ms in per.items())
    print(f"{'batch.throughput':<24} {ratios['bare']:5.2f}  >= 0.95 {'ok' if ok else 'MISSED'}  {spent}")
    print(f"{'batch.throughput.engine':<24} {ratios['engine']:5.2f}  (shown only: our engine in a bare pool)")
    return ok


def _run_pool(work: Callable[[Task], None], stored: Sequence[Path], quality: int) -> float:
    folder = tempfile.mkdtemp(prefix="ipau-pool-")
    context = multiprocessing.get_context("spawn")
    try:
        with context.Pool(SLOTS) as pool:
            pool.map(work, [(str(stored[0]), folder, quality)] * SLOTS)  # imports, and the first page faults
            begun = time.perf_counter()
            for _ in pool.imap_unordered(work, [(str(path), folder, quality) for path in stored]):
                pass
            return time.perf_counter() - begun
    finally:
        shutil.rmtree(folder)


def _bare(task: Task) -> None:
    """Black and white with a thumbnail, as one writes it with Pillow alone."""
    source, folder, quality = task
    image = Image.open(source).convert("L")
    image.save(f"{folder}/{Path(source).name}.jpg", "JPEG", quality=quality)
    image.thumbnail((256, 256))
    image.save(f"{folder}/{Path(source).name}.webp", "WEBP", quality=80, method=2)


def _engine(task: Task) -> None:
    """The same by our engine, without the system around it."""
    from workers import engine
    from workers.media.encode import OutputOptions
    from workers.recipe import Recipe

    source, folder, quality = task
    made = engine.run(
        Recipe.single("blackwhite"), Path(source).read_bytes(), output=OutputOptions(quality=quality)
    )
    Path(f"{folder}/{Path(source).name}.jpg").write_bytes(made.files[0].data)
    Path(f"{folder}/{Path(source).name}.webp").write_bytes(made.thumbnail or b"")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    sys.exit(not main(parser.parse_args().pictures))
