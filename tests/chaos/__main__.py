"""Inject random faults into a site under load, let it recover, and check that no harm is done.

The same seed makes the same choices, but their effect depends on timing. The exit status is 1 if something
was lost, done twice or left behind.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter

from tests.chaos import site

CALM_SECONDS = 240


def main(seed: int, seconds: float, jobs: int) -> bool:
    """Run the chaos test and print a summary; return whether all checks passed."""
    with site.running() as running:
        from tests.chaos import faults, neighbor, people, verdict

        crowd = people.Crowd(random.Random(f"people {seed}"), jobs=jobs, seconds=seconds)
        strikes = faults.Faults(random.Random(f"faults {seed}"), running)
        hostile = neighbor.Neighbor(
            random.Random(f"neighbor {seed}"), jobs=max(1, jobs // 5), seconds=seconds
        )
        crowd.arrive()
        hostile.arrive()
        running.wait_for_workers()
        begun = time.monotonic()
        threads = [threading.Thread(target=crowd.use), threading.Thread(target=hostile.attack)]
        for thread in threads:
            thread.start()
        strikes.strike(seconds)
        strikes.calm()
        struck = time.monotonic() - begun
        for thread in threads:
            thread.join()
        ended = verdict.wait_for_end(CALM_SECONDS)
        calm = time.monotonic() - begun - struck
        problems = verdict.problems(asked=crowd.asked + hostile.asked) if ended else verdict.unfinished()
        print(f"chaos: seed {seed}, {struck:.0f} s of faults, {calm:.0f} s until all was done")
        print(f"  faults   {_listed(strikes.done)}")
        print(f"  people   {_listed(crowd.done)}")
        print(f"  neighbor {_listed(hostile.done)}")
        for name, numbers in verdict.figures().items():
            print(f"  {name:<8} {_listed(numbers)}")
        for problem in problems:
            print(f"  WRONG    {problem}")
        print("  nothing was lost, nothing was done twice" if not problems else f"  {len(problems)} wrong")
        if problems:
            running.keep_logs()
    return not problems


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items())) or "none"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0, help="duration of the faults")
    parser.add_argument("--jobs", type=int, default=100)
    options = parser.parse_args()
    sys.exit(not main(options.seed, options.minutes * 60, options.jobs))
