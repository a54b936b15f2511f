"""Benchmark: overhead of the queue for large jobs, several owners and reused results, and its memory."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import jobs, site
from tests.benchmarks.pictures import load_pictures

SLOTS = 2
# What a turn takes before another owner's comes, see `processing.job_queue.wakeups.TURN_SECONDS`.
TURN_SECONDS = 1.0
NOOP_MODULE = "tests.benchmarks.noop"


def growth(files: Sequence[Any]) -> bool:
    """Seconds a picture of 5,000, over those of 500."""
    small, large = jobs.repeat_files(files, 500), jobs.repeat_files(files, 5000)
    ratios, each = [], {"500": 0.0, "5,000": 0.0}
    for _ in range(2):
        few, many = jobs.time_of(small) / 500, jobs.time_of(large) / 5000
        ratios.append(many / few)
        each = {"500": few, "5,000": many}
    spent = "  ".join(f"{name}: {1000 * seconds:.2f} ms" for name, seconds in each.items())
    return _say("batch.growth", statistics.median(ratios), 1.05, spent, most=True)


def dispatch(files: Sequence[Any]) -> bool:
    """Pictures a second on which nothing is done, over those with a message for each."""
    from market.listings.services import sync_builtin_listings
    from tests.benchmarks import noop

    assert noop.KEY
    sync_builtin_listings()
    chosen = jobs.repeat_files(files[:50], 4000)
    jobs.time_of(chosen[:100], app=noop.KEY)
    ours, theirs = [], []
    for _ in range(3):
        ours.append(len(chosen) / jobs.time_of(chosen, app=noop.KEY))
        theirs.append(_by_messages(chosen[:1000]))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    spent = f"{statistics.median(ours):,.0f} a second, by messages {statistics.median(theirs):,.0f}"
    return _say("batch.dispatch", ratio, 5, spent)


def _by_messages(files: Sequence[Any]) -> float:
    """Return pictures a second with one Celery task for each: rows, messages and all."""
    from market.models import Version
    from processing.models import Item, Job
    from tests.benchmarks import noop

    version = Version.objects.get(listing__name=noop.KEY)
    begun = time.perf_counter()
    # Not a job of ours to any worker: nothing of it waits in a queue of the record.
    job = Job.objects.create(
        owner=files[0].owner, version=version, recipe=version.recipe, queue="bench", total=len(files)
    )
    items = Item.objects.bulk_create(
        Item(job=job, position=n, name=f.name, output_stem=f"{n}", input_file=f, blob_id=f.blob_id)
        for n, f in enumerate(files)
    )
    for item in items:
        noop.one_picture.apply_async((str(item.pk),), queue="cpu")
    while Job.objects.values_list("succeeded", flat=True).get(pk=job.pk) < len(files):
        time.sleep(0.02)
    spent = time.perf_counter() - begun
    Job.objects.filter(pk=job.pk).update(state="succeeded")
    return len(files) / spent


def fairness(files: Sequence[Any]) -> bool:
    """Ten pictures of B while A has 10,000 waiting in four jobs, over the same alone."""
    from processing import services

    a, b = jobs.new_person("a"), jobs.new_person("b")
    ten = jobs.repeat_files(files, 10, owner=b)
    jobs.time_of(ten)
    alone = statistics.median(jobs.time_of(ten) for _ in range(5))
    long = [jobs.submit(jobs.repeat_files(files, 2500, owner=a)) for _ in range(4)]
    time.sleep(5)
    shared = statistics.median(jobs.time_of(ten) for _ in range(5))
    for job in long:
        services.cancel_job(owner=a, job_id=job.pk)
    limit = 2 + TURN_SECONDS / alone
    spent = f"alone {alone:.2f} s, shared {shared:.2f} s, one turn {TURN_SECONDS:.0f} s"
    return _say("fairness", shared / alone, limit, spent, most=True)


def memo(files: Sequence[Any]) -> bool:
    """A repeated job over its first run."""
    ratios, times = [], (0.0, 0.0)
    for contrast in (11, 12, 13):
        first = jobs.time_of(files, reuse=True, contrast=contrast)
        second = jobs.time_of(files, reuse=True, contrast=contrast)
        ratios.append(second / first)
        times = (first, second)
    spent = f"first {times[0]:.2f} s, again {times[1]:.2f} s"
    return _say("memo", statistics.median(ratios), 0.05, spent, most=True)


def memory(files: Sequence[Any]) -> bool:
    """Resident size of a slot after 1,000 pictures, over after 50."""
    return _say("memory", *_growth_of_slots(files, "blackwhite"), most=True)


def memory_of_model(files: Sequence[Any]) -> bool:
    """The same with a detector."""
    site.install_model()
    return _say("memory.model", *_growth_of_slots(files, site.DETECTOR), most=True)


def _growth_of_slots(files: Sequence[Any], app: str) -> tuple[float, float, str]:
    jobs.time_of(jobs.repeat_files(files, 50 * SLOTS), app=app)
    before = _resident()
    jobs.time_of(jobs.repeat_files(files, 950 * SLOTS), app=app)
    after = _resident()
    ratio = max(after[pid] / size for pid, size in before.items())
    return ratio, 1.1, f"{max(before.values()) / 2**20:.0f} MiB, then {max(after.values()) / 2**20:.0f} MiB"


def _resident() -> dict[int, int]:
    """Return the bytes of memory that each slot of the CPU worker holds."""
    from processing.models import Worker

    pids = Worker.objects.get(name="cpu@bench").slot_pids
    status = {pid: Path(f"/proc/{pid}/status").read_text() for pid in pids}
    return {pid: int(text.partition("VmRSS:")[2].split()[0]) * 1024 for pid, text in status.items()}


def _say(name: str, ratio: float, target: float, spent: str, *, most: bool = False) -> bool:
    ok = ratio <= target if most else ratio >= target
    sign = "<=" if most else ">="
    print(f"{name:<24} {ratio:5.2f}  {sign} {target:.2f} {'ok' if ok else 'MISSED'}  {spent}", flush=True)
    return ok


# Memory first: it wants slots that have done nothing yet.
ROWS: dict[str, Callable[[Sequence[Any]], bool]] = {
    "memory": memory,
    "memory.model": memory_of_model,
    "memo": memo,
    "fairness": fairness,
    "batch.dispatch": dispatch,
    "batch.growth": growth,
}


def main(chosen: Sequence[str]) -> bool:
    """Print the rows; return whether all targets were met."""
    paths = load_pictures(500)
    with site.running(slots=SLOTS, include=NOOP_MODULE):
        files = site.fill_drive(paths)
        met = [ROWS[name](files) for name in chosen]
    return all(met)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=ROWS)
    sys.exit(not main(parser.parse_args().only or list(ROWS)))
