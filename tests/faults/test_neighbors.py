"""Tests of overload: one account overloads the site, and pages, previews and jobs of others continue."""

import pytest

from tests.neighbors import site
from tests.neighbors.attacks import ATTACKS, Attacker
from tests.neighbors.victim import Times, Victim
from tests.workers.inference import bombs

SECONDS = 3.0
# The suite shares its machine with other tests, in the quiet run too. So a bound is three times as long as it
# takes there, or this, whichever is more. `python -m tests.neighbors` holds to the first alone.
LEAST_BOUNDS = {"page": 1.0, "preview": 1.5, "job": 3.0, "model": 4.0}
MOST_TIMES = 3.0
MOST_PAGE_SECONDS = 2.0


@pytest.mark.alone
@pytest.mark.worker
def test_an_account_that_attacks_stops_nobody() -> None:
    with site.running() as running:
        other = running.client("victim@example.org")
        victim = Victim(other, other.wait_for_model(other.convert("mine", bombs.harmless())))
        attacker = Attacker(running.client("attacker@example.org"))
        victim.use(2)
        quiet = victim.use(SECONDS)
        assert quiet.failures == []
        problems = []
        for name, attack in ATTACKS.items():
            with attack(attacker):
                times = victim.use(SECONDS)
            problems += [f"{name}: {text}" for text in _problems(times, quiet)]
    assert problems == []


def _problems(times: Times, quiet: Times) -> list[str]:
    found = [failure[:300] for failure in times.failures]
    for kind, least in LEAST_BOUNDS.items():
        bound = max(least, MOST_TIMES * quiet.slowest(kind))
        if kind == "page":
            bound = min(bound, MOST_PAGE_SECONDS)
        if times.slowest(kind) > bound:
            found.append(f"a {kind} took {times.slowest(kind):.2f} s, at most {bound:.2f}")
    return found
