"""Overload a site with one account, time another one, print both; exit status 1 if a limit is exceeded.

`.venv/bin/python -m tests.neighbors [--seconds 10] [--only time_bombs]`
"""

from __future__ import annotations

import argparse
import sys

from tests.neighbors import site
from tests.neighbors.attacks import ATTACKS, Attacker
from tests.neighbors.victim import KINDS, Times, Victim
from tests.workers.inference import bombs

# Limits: the ratio to a quiet run, and an absolute limit for pages. Requests below QUICK_SECONDS always pass.
MOST_TIMES = 3.0
QUICK_SECONDS = 0.25
MOST_PAGE_SECONDS = 2.0


def main(seconds: float, only: list[str]) -> bool:
    """Run the attacks one after the other; return whether the other account stayed within the limits."""
    with site.running() as running:
        other = running.client("victim@example.org")
        victim = Victim(other, other.wait_for_model(other.convert("mine", bombs.harmless())))
        attacker = Attacker(running.client("attacker@example.org"))
        victim.use(3)
        quiet = victim.use(seconds)
        _print("quiet", quiet, quiet)
        fine = not quiet.failures
        for name, attack in ATTACKS.items():
            if only and name not in only:
                continue
            with attack(attacker):
                times = victim.use(seconds)
            fine &= _print(name, times, quiet)
            victim.use(2)
    return fine


def _print(name: str, times: Times, quiet: Times) -> bool:
    words, fine = [], not times.failures
    for kind in KINDS:
        slowest, usual = times.slowest(kind), quiet.slowest(kind)
        ratio = slowest / usual if usual else 0.0
        broken = (ratio > MOST_TIMES and slowest > QUICK_SECONDS) or (
            kind == "page" and slowest > MOST_PAGE_SECONDS
        )
        fine &= not broken
        words.append(f"{kind} {slowest * 1000:6.0f} ms x{ratio:4.1f}{' !' if broken else '  '}")
    print(f"{name:<20} {'  '.join(words)}  failed {len(times.failures)}", flush=True)
    for failure in times.failures[:3]:
        print(f"    {failure[:300]}", flush=True)
    return fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each attack")
    parser.add_argument("--only", action="append", choices=list(ATTACKS), default=[])
    options = parser.parse_args()
    sys.exit(not main(options.seconds, options.only))
