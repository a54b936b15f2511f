"""One account does what it can to stop the others. Another one's pages, previews and jobs go on."""

from collections.abc import Iterator

import pytest

from tests.families import bombs
from tests.neighbors import site
from tests.neighbors.attacks import ATTACKS, Attacker
from tests.neighbors.victim import Times, Victim

# The whole site of one test after the other: in one process of the suite, and early.
pytestmark = [pytest.mark.long, pytest.mark.worker, pytest.mark.xdist_group("neighbors")]
SECONDS = 5.0
# The suite shares its machine with other tests, in the quiet run too, so a bound is three times as long as it
# takes there, or this, whichever is more. `python -m tests.neighbors` holds to the first alone.
LEAST_BOUNDS = {"page": 1.0, "preview": 1.5, "job": 3.0, "model": 4.0}
MOST_TIMES = 3.0
MOST_PAGE_SECONDS = 2.0


@pytest.fixture(scope="module")
def people() -> Iterator[tuple[Victim, Attacker, Times]]:
    """A site with two accounts, and how long things take for one while the other is quiet."""
    with site.running() as running:
        other = running.client("victim@example.org")
        victim = Victim(other, other.wait_for_model(other.convert("mine", bombs.harmless())))
        attacker = Attacker(running.client("attacker@example.org"))
        victim.use(2)
        yield victim, attacker, victim.use(SECONDS)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_account_that_attacks_stops_nobody(name: str, people: tuple[Victim, Attacker, Times]) -> None:
    victim, attacker, quiet = people
    assert quiet.failures == []
    with ATTACKS[name](attacker):
        times = victim.use(SECONDS)
    assert times.failures == []
    found = {kind: times.slowest(kind) for kind in LEAST_BOUNDS}
    bounds = {kind: max(least, MOST_TIMES * quiet.slowest(kind)) for kind, least in LEAST_BOUNDS.items()}
    bounds["page"] = min(bounds["page"], MOST_PAGE_SECONDS)
    assert {kind: spent for kind, spent in found.items() if spent > bounds[kind]} == {}, (found, bounds)
