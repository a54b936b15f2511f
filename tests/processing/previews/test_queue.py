"""Queue of preview requests, and the slots that wait for them."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.models import User
from market.listings import services as market
from market.models import Version
from processing.execution import tasks
from processing.fleet.registry import Slot
from processing.models import Worker
from processing.previews import queue
from processing.previews import work as previews_work
from processing.previews.channel import SUPERSEDED, Answer, valkey, wait_for
from processing.services import preview_file
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.processing.wait_for_jobs import wait_until

TOKENS = "ipau:preview:tokens"
READY = "ipau:preview:ready"


@pytest.fixture
def slots() -> Iterator[Callable[..., "Future[Any]"]]:
    """Return a function that makes slots wait, each in a thread. It returns once they wait."""
    with ThreadPoolExecutor(8) as threads:

        def wait(name: str, seconds: float = 5) -> "Future[Any]":
            begun = blocked()
            found = threads.submit(queue.take, Slot(name, 1), seconds=seconds)
            wait_until(lambda: blocked() > begun, f"the slot {name} does not wait")
            return found

        yield wait


def tokens() -> int:
    found: Any = valkey().zcard(TOKENS)
    return int(found)


def names() -> list[bytes]:
    found: Any = valkey().zrange(TOKENS, 0, -1)
    return list(found)


def blocked() -> int:
    """Return the number of blocked slots in the Valkey database of this test."""
    database = valkey().connection_pool.connection_kwargs["db"]
    clients: Any = valkey().client_list()
    return sum("b" in client["flags"] and client["db"] == str(database) for client in clients)


def look() -> list[Any] | None:
    return queue.take(Slot("looking", 1), seconds=0)


def test_without_a_waiting_slot_one_must_be_woken() -> None:
    assert not queue.put(["a", {"b": 1}])
    assert not queue.put(["c"])
    assert (look(), look(), look()) == (["a", {"b": 1}], ["c"], None)


def test_a_waiting_slot_gets_a_request_at_once(slots: Callable[..., "Future[Any]"]) -> None:
    found = slots("first")
    assert queue.put(["a"])
    assert found.result(1) == ["a"]
    assert tokens() == 0
    assert not queue.put(["b"], person="other")


def test_each_waiting_slot_takes_one_request(slots: Callable[..., "Future[Any]"]) -> None:
    waiting = [slots(name) for name in ("first", "second")]
    assert [queue.put([n], person=f"person-{n}") for n in range(3)] == [True, True, False]
    assert sorted(found.result(1)[0] for found in waiting) == [0, 1]
    assert look() == [2]


def test_a_slot_that_stopped_waiting_gets_no_request(slots: Callable[..., "Future[Any]"]) -> None:
    assert slots("first", seconds=0.2).result(2) is None
    assert tokens() == 0
    assert not queue.put(["a"])


def test_a_leaving_slot_removes_one_token_of_any_slot() -> None:
    """A request used the token of this slot, but another slot took it, so the other token remains."""
    valkey().zadd(TOKENS, {"reached": time.time() + 60})
    assert queue._run(queue._LEAVE, "leaving") is None
    assert tokens() == 0


def test_a_request_that_arrives_while_a_slot_leaves_is_not_lost() -> None:
    """The slot has stopped waiting, and a request uses its remaining token."""
    valkey().zadd(TOKENS, {"leaving": time.time() + 60})
    assert queue.put(["a"])
    assert queue._run(queue._LEAVE, "leaving").endswith(b'["a"]')


def test_a_token_of_a_dead_slot_expires() -> None:
    valkey().zadd(TOKENS, {"dead": time.time() - 5})
    assert not queue.put(["a"])
    assert tokens() == 0


def test_requests_that_timed_out_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    queue.put(["old"])
    monkeypatch.setattr(queue, "REQUEST_TIMEOUT_SECONDS", -1)
    assert look() is None
    monkeypatch.undo()
    assert look() is None


SLOTS = 3


class Walk:
    """Slots that come and go, and accounts that send requests rarely or constantly. No wake-up is repeated.

    A wake-up is a permit of a semaphore, as a Celery message is: a slot that has none does not look.
    """

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.made: list[int] = []
        self.most: dict[str, int] = {}
        self._woken = threading.Semaphore(0)
        self._running: list[str] = []
        self._lock = threading.Lock()

    def slot(self, name: str) -> None:
        slot = Slot(name, 1)
        while len(self.made) < self.asked:
            if not self._woken.acquire(timeout=0.05):
                continue
            for _ in range(5):
                request = queue.take(slot, seconds=0.001 + len(self.made) % 7 / 500)
                if request is None:
                    break
                self._make(*request)
            if queue.end(slot):
                self._woken.release()

    def _make(self, number: int, person: str) -> None:
        with self._lock:
            self._running.append(person)
            now = self._running.count(person)
            self.most[person] = max(now, self.most.get(person, 0))
        time.sleep(number % 4 / 1000)
        with self._lock:
            self._running.remove(person)
            self.made.append(number)

    def ask(self, number: int, person: str) -> None:
        if not queue.put([number, person], person=person):
            self._woken.release()


def test_no_request_is_lost_or_repeated_while_slots_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 1000)
    walk = Walk(asked=400)
    for n in range(SLOTS):
        queue.take(Slot(f"slot {n}", 1), seconds=0)

    def person(start: int, name: str) -> None:
        for number in range(start, walk.asked, 4):
            walk.ask(number, name)
            # Two threads of the greedy account send requests without a pause.
            time.sleep(0 if name == "greedy" else number % 7 / 1000)

    threads = [threading.Thread(target=walk.slot, args=(f"slot {n}",)) for n in range(SLOTS)]
    people = ["greedy", "greedy", "ann", "bob"]
    threads += [threading.Thread(target=person, args=(n, name)) for n, name in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(walk.made) == list(range(walk.asked))
    assert (tokens(), valkey().exists(READY)) == (0, 0)
    assert walk.most["greedy"] == SLOTS - 1
    assert max(walk.most.values()) <= SLOTS - 1


# --- Fairness between accounts.


def take(worker: str, pid: int = 1) -> str | None:
    """Return the id of the next request of a slot. Its previous request has ended."""
    found = queue.take(Slot(worker, pid), seconds=0)
    return None if found is None else found[0]


def put(person: str, *ids: str) -> None:
    for request_id in ids:
        queue.put([request_id], person=person)


@pytest.fixture
def three() -> list[str]:
    """Return the names of three slots that serve requests."""
    names = ["one", "two", "three"]
    assert [take(name) for name in names] == [None] * 3
    return names


def test_one_account_leaves_a_slot_to_others(three: list[str]) -> None:
    put("greedy", "g1", "g2", "g3")
    assert [take(name) for name in three] == ["g1", "g2", None]
    put("other", "o1")
    assert take("three") == "o1"
    # Skipped at first, and taken as soon as a request of the same account ends.
    assert take("three") is None
    assert take("one") == "g3"


def test_a_single_slot_runs_one_request_of_any_account() -> None:
    put("greedy", "g1", "g2")
    assert (take("one"), take("one"), take("one")) == ("g1", "g2", None)


def test_the_account_served_longest_ago_is_next() -> None:
    put("greedy", "g1", "g2", "g3", "g4")
    put("ann", "a1", "a2")
    put("bob", "b1")
    found = [take("one") for _ in range(8)]
    assert found == ["g1", "a1", "b1", "g2", "a2", "g3", "g4", None]


def test_a_waiting_slot_gets_no_skipped_request(
    three: list[str], slots: Callable[..., "Future[Any]"]
) -> None:
    put("greedy", "g1", "g2")
    assert [take(name) for name in three[:2]] == ["g1", "g2"]
    waiting = slots("three")
    assert queue.put(["g3"], person="greedy")
    assert (queue.assign(), tokens()) == (False, 1)
    assert queue.put(["o1"], person="other")
    assert waiting.result(1) == ["o1"]


def test_the_end_of_a_request_wakes_a_slot_for_skipped_ones(three: list[str]) -> None:
    put("greedy", "g1", "g2", "g3", "g4")
    assert [take(name) for name in three] == ["g1", "g2", None]
    assert queue.end(Slot("one", 1))
    assert take("three") == "g3"
    assert not queue.end(Slot("unheard", 1))


def test_the_end_of_a_request_assigns_the_next_to_a_waiting_slot(
    three: list[str], slots: Callable[..., "Future[Any]"]
) -> None:
    put("greedy", "g1", "g2", "g3")
    assert [take(name) for name in three[:2]] == ["g1", "g2"]
    waiting = slots("three")
    assert not queue.end(Slot("one", 1))
    assert waiting.result(1) == ["g3"]


def test_heartbeats_set_the_number_of_slots() -> None:
    queue.sign_on("here", slots=4)
    put("greedy", *(f"g{n}" for n in range(5)))
    assert [take("here", pid) for pid in range(4)] == ["g0", "g1", "g2", None]
    queue.sign_on("there", slots=1)
    assert queue.assign()
    assert take("there") == "g3"
    queue.sign_off("there")
    assert not queue.assign()


def test_requests_of_dead_workers_do_not_count() -> None:
    queue.sign_on("lost", slots=1)
    queue.sign_on("here", slots=2)
    put("ann", "a1", "a2", "a3", "a4")
    assert [take("lost"), take("here", 1), take("here", 2)] == ["a1", "a2", None]

    def is_free() -> bool:
        queue.sign_on("here", slots=3)
        return queue.assign()

    wait_until(is_free, "what the lost worker held counts for ever")
    assert take("here", 2) == "a3"


def test_waiting_requests_of_an_account_are_limited() -> None:
    most = queue.MOST_WAITING
    put("other", "o1")
    put("greedy", *(f"g{n}" for n in range(most + 2)))
    for given_way in ("g0", "g1"):
        answer = wait_for(given_way, seconds=1)
        assert answer is not None
        assert answer.error_code == SUPERSEDED
    assert wait_for("g2", seconds=0.01) is None
    found = [take("one") for _ in range(most + 2)]
    assert sorted(name or "" for name in found) == ["", *sorted(f"g{n}" for n in range(2, most + 2)), "o1"]


def test_a_long_request_is_complete() -> None:
    request = ["a", "x" * 100_000]
    queue.put(request)
    assert valkey().lrange("ipau:preview:waiting", 0, -1)[0].endswith(b" a ")
    assert look() == request


# --- Canceled and expired requests.


def test_a_canceled_request_is_not_started() -> None:
    put("ann", "a1", "a2")
    queue.cancel("a1")
    assert (take("one"), take("one")) == ("a2", None)


def test_a_request_canceled_while_running_is_not_retried(ended: Slot) -> None:
    put("ann", "a1")
    assert queue.take(ended, seconds=0) == ["a1"]
    queue.cancel("a1")
    assert queue.recover("here") == []
    assert look() is None


def test_a_request_that_timed_out_is_not_retried(ended: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    put("ann", "a1")
    assert queue.take(ended, seconds=0) == ["a1"]
    monkeypatch.setattr(queue, "REQUEST_TIMEOUT_SECONDS", 0)
    assert queue.recover("here") == []
    monkeypatch.undo()
    assert look() is None


def test_a_slot_returns_to_its_worker_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with constant requests: each preview takes a second, and the next request already waits."""
    now = 100.0
    made = 0

    def make(*_request: Any) -> None:
        nonlocal now, made
        now, made = now + 1, made + 1
        queue.put([made])

    monkeypatch.setattr(previews_work, "make_preview", make)
    monkeypatch.setattr(previews_work, "time", SimpleNamespace(monotonic=lambda: now))
    queue.put([0])
    previews_work.make_previews()
    assert made == previews_work.PREVIEWS_AT_MOST
    assert look() == [made]


def test_waiting_slots_are_not_busy(slots: Callable[..., "Future[Any]"]) -> None:
    waiting = [slots("here"), slots("there")]
    assert [queue.waiting(worker) for worker in ("here", "there", "he")] == [1, 1, 0]
    for person in ("a", "b"):
        queue.put([person], person=person)
    assert sorted(found.result(2)[0] for found in waiting) == ["a", "b"]
    assert queue.waiting("here") == 0


# --- Dead slots.


@pytest.fixture
def ended() -> Slot:
    """A slot of a local worker with a dead process."""
    process = subprocess.Popen(["true"])
    process.wait()
    return Slot("here", process.pid)


def test_the_request_of_a_dead_slot_is_next(ended: Slot) -> None:
    queue.put(["a"])
    queue.put(["b"])
    assert queue.take(ended, seconds=0) == ["a"]
    assert queue.recover("elsewhere") == []
    assert queue.recover("here") == []
    assert [look(), look(), look()] == [["a"], ["b"], None]


def test_a_request_that_kills_every_slot_fails(ended: Slot) -> None:
    queue.put(["a"])
    failed = []
    for _ in range(queue.MAX_TRIES):
        assert queue.take(ended, seconds=0) == ["a"]
        failed.append(queue.recover("here"))
    assert failed == [[], [["a"]]]
    assert look() is None


def test_finished_and_running_requests_are_not_repeated(ended: Slot) -> None:
    queue.put(["a"])
    assert queue.take(ended, seconds=0) == ["a"]
    assert queue.take(ended, seconds=0) is None
    queue.put(["b"])
    assert queue.take(Slot("here", os.getpid()), seconds=0) == ["b"]
    assert queue.recover("here") == []
    assert look() is None


def test_a_request_assigned_to_a_dying_slot_is_recovered(slots: Callable[..., "Future[Any]"]) -> None:
    found = slots("here")
    queue.put(["a"])
    assert found.result(1) == ["a"]
    assert valkey().lrange("ipau:preview:held:here/1", 0, -1) != []


def test_slots_of_dead_workers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    queue.put(["a"])
    look()
    monkeypatch.setattr(queue, "_FORGET_SECONDS", -1)
    queue.recover("here")
    found: Any = valkey().keys("ipau:preview:*")
    assert set(found) <= {b"ipau:preview:waiting", b"ipau:preview:turns"}
    assert look() == ["a"]


# --- With a worker.


@pytest.fixture
def shown(user: User) -> Callable[[int], Answer]:
    version: Version = market.get_latest_version(user=user, owner="ipau", name="blackwhite")
    file = upload(user)
    return lambda contrast: preview_file(
        owner=user, version=version, params={"contrast": contrast}, file=file
    )


@pytest.mark.django_db(transaction=True)
def test_only_the_first_of_several_previews_sends_a_message(
    celery_worker: Callable[..., LiveWorker], shown: Callable[[int], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_worker(queues="preview")
    reached: list[bool] = []
    put = queue.put

    def note(request: list[Any], **person: str) -> bool:
        reached.append(put(request, **person))
        return reached[-1]

    monkeypatch.setattr(queue, "put", note)
    for contrast in range(5):
        assert shown(contrast).body
        wait_until(tokens, "the slot does not wait for another preview")
    assert reached == [False, True, True, True, True]


@pytest.mark.django_db(transaction=True)
def test_another_slot_takes_over_from_a_dead_waiting_slot(
    celery_worker: Callable[..., LiveWorker], shown: Callable[[int], Answer]
) -> None:
    celery_worker(queues="preview")
    assert shown(1).body
    valkey().zadd(TOKENS, {"of the dead": time.time() + 60})
    wait_until(lambda: names() == [b"of the dead"], "the living one has not left")
    begun = time.monotonic()
    assert shown(2).body
    assert time.monotonic() - begun < 3


@pytest.mark.django_db
def test_without_a_worker_requests_are_dropped(shown: Callable[[int], Answer]) -> None:
    assert not Worker.objects.exists()
    with pytest.raises(Exception, match="No preview worker"):
        shown(1)
    assert look() is None
    assert not tasks.broker.depth("preview")
