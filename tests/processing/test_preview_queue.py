"""Requests for previews and the slots that wait for them."""

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
from market import services as market
from market.models import Version
from processing import claims, preview_queue, tasks, work
from processing.fleet import Slot
from processing.models import Worker
from processing.previews import Answer, valkey
from processing.services import preview_file
from tests.drive.drives import upload
from tests.live import LiveWorker
from tests.processing.running import wait_until

TOKENS = "ipau:preview:tokens"


@pytest.fixture
def slots() -> Iterator[Callable[..., "Future[Any]"]]:
    """Let slots wait, each in a thread; returns when they do."""
    with ThreadPoolExecutor(8) as threads:

        def wait(name: str, seconds: float = 5) -> "Future[Any]":
            begun = blocked()
            found = threads.submit(preview_queue.take, Slot(name, 1), seconds=seconds)
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
    """Return how many slots wait at this test's database of Valkey, which other tests' servers share."""
    database = valkey().connection_pool.connection_kwargs["db"]
    clients: Any = valkey().client_list()
    return sum("b" in client["flags"] and client["db"] == str(database) for client in clients)


def look() -> list[Any] | None:
    return preview_queue.take(Slot("looking", 1), seconds=0)


def test_without_a_slot_that_waits_one_has_to_be_woken() -> None:
    assert not preview_queue.put(["a", {"b": 1}])
    assert not preview_queue.put(["c"])
    assert (look(), look(), look()) == (["a", {"b": 1}], ["c"], None)


def test_a_slot_that_waits_is_reached_at_once(slots: Callable[..., "Future[Any]"]) -> None:
    found = slots("first")
    assert preview_queue.put(["a"])
    assert found.result(1) == ["a"]
    assert tokens() == 0
    assert not preview_queue.put(["b"])


def test_each_slot_that_waits_stands_for_one_request(slots: Callable[..., "Future[Any]"]) -> None:
    waiting = [slots(name) for name in ("first", "second")]
    assert [preview_queue.put([number]) for number in range(3)] == [True, True, False]
    assert sorted(found.result(1)[0] for found in waiting) == [0, 1]
    assert look() == [2]


def test_who_has_waited_in_vain_is_not_counted_on(slots: Callable[..., "Future[Any]"]) -> None:
    assert slots("first", seconds=0.2).result(2) is None
    assert tokens() == 0
    assert not preview_queue.put(["a"])


def test_who_leaves_takes_one_token_with_them_whoever_left_it() -> None:
    """A request has taken this slot's token, but has reached another, whose own is still there."""
    valkey().zadd(TOKENS, {"reached": time.time() + 60})
    assert preview_queue._run(preview_queue._LEAVE, "leaving") is None
    assert tokens() == 0


def test_a_request_that_comes_as_a_slot_leaves_is_not_lost() -> None:
    """The slot's wait is over, its token is still there, and is taken."""
    valkey().zadd(TOKENS, {"leaving": time.time() + 60})
    assert preview_queue.put(["a"])
    assert preview_queue._run(preview_queue._LEAVE, "leaving").endswith(b'["a"]')


def test_a_token_of_a_dead_slot_is_overdue_some_time() -> None:
    valkey().zadd(TOKENS, {"dead": time.time() - 5})
    assert not preview_queue.put(["a"])
    assert tokens() == 0


def test_what_nobody_waits_for_any_more_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    preview_queue.put(["old"])
    monkeypatch.setattr(preview_queue, "PATIENCE_SECONDS", -1)
    assert look() is None
    monkeypatch.undo()
    assert look() is None


def test_none_is_lost_and_none_made_twice_whoever_comes_and_goes() -> None:
    made: list[int] = []
    woken = threading.Semaphore(0)
    asked = 300

    def slot(name: str) -> None:
        while len(made) < asked:
            if not woken.acquire(timeout=0.05):
                continue
            while request := preview_queue.take(Slot(name, 1), seconds=0.001 + len(made) % 7 / 500):
                made.append(request[0])

    def person(start: int) -> None:
        for number in range(start, asked, 3):
            if not preview_queue.put([number]):
                woken.release()
            time.sleep(number % 5 / 1000)

    threads = [threading.Thread(target=slot, args=(f"slot {n}",)) for n in range(3)]
    threads += [threading.Thread(target=person, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == list(range(asked))
    assert tokens() == 0


def test_a_slot_hears_from_its_worker_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many previews are asked for: here each takes a second, and the next one is there already."""
    now = 100.0
    made = 0

    def make(*_request: Any) -> None:
        nonlocal now, made
        now, made = now + 1, made + 1
        preview_queue.put([made])

    monkeypatch.setattr(work, "make_preview", make)
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=lambda: now))
    preview_queue.put([0])
    work.make_previews()
    assert made == work.PREVIEWS_AT_MOST
    assert look() == [made]


def test_who_waits_is_not_busy(slots: Callable[..., "Future[Any]"]) -> None:
    waiting = [slots("here"), slots("there")]
    assert [preview_queue.waiting(worker) for worker in ("here", "there", "he")] == [1, 1, 0]
    for _ in waiting:
        preview_queue.put([])
    assert [found.result(2) for found in waiting] == [[], []]
    assert preview_queue.waiting("here") == 0


# --- Slots that end.


@pytest.fixture
def ended() -> Slot:
    """A slot of a worker here whose process is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return Slot("here", process.pid)


def test_what_a_slot_held_as_it_ended_comes_next(ended: Slot) -> None:
    preview_queue.put(["a"])
    preview_queue.put(["b"])
    assert preview_queue.take(ended, seconds=0) == ["a"]
    assert preview_queue.recover("elsewhere") == []
    assert preview_queue.recover("here") == []
    assert [look(), look(), look()] == [["a"], ["b"], None]


def test_what_ends_each_slot_is_given_up(ended: Slot) -> None:
    preview_queue.put(["a"])
    given_up = []
    for _ in range(claims.MAX_ATTEMPTS):
        assert preview_queue.take(ended, seconds=0) == ["a"]
        given_up.append(preview_queue.recover("here"))
    assert given_up == [[], [], [["a"]]]
    assert look() is None


def test_what_a_slot_has_done_or_still_does_is_not_made_again(ended: Slot) -> None:
    preview_queue.put(["a"])
    assert preview_queue.take(ended, seconds=0) == ["a"]
    assert preview_queue.take(ended, seconds=0) is None
    preview_queue.put(["b"])
    assert preview_queue.take(Slot("here", os.getpid()), seconds=0) == ["b"]
    assert preview_queue.recover("here") == []
    assert look() is None


def test_what_comes_as_a_slot_ends_is_held_too(slots: Callable[..., "Future[Any]"]) -> None:
    found = slots("here")
    preview_queue.put(["a"])
    assert found.result(1) == ["a"]
    assert valkey().lrange("ipau:preview:held:here/1", 0, -1) != []


def test_slots_of_workers_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    preview_queue.put(["a"])
    look()
    monkeypatch.setattr(preview_queue, "_FORGET_SECONDS", -1)
    preview_queue.recover("here")
    assert valkey().keys("ipau:preview:*") == [b"ipau:preview:requests"]
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
def test_only_the_first_of_some_previews_takes_a_message(
    celery_worker: Callable[..., LiveWorker], shown: Callable[[int], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_worker(queues="preview")
    reached: list[bool] = []
    put = preview_queue.put

    def note(request: list[Any]) -> bool:
        reached.append(put(request))
        return reached[-1]

    monkeypatch.setattr(preview_queue, "put", note)
    for contrast in range(5):
        assert shown(contrast).body
        wait_until(tokens, "the slot does not wait for another preview")
    assert reached == [False, True, True, True, True]


@pytest.mark.django_db(transaction=True)
def test_where_the_slot_that_waits_has_died_another_takes_over(
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
def test_without_a_worker_nothing_piles_up(shown: Callable[[int], Answer]) -> None:
    assert not Worker.objects.exists()
    with pytest.raises(Exception, match="No preview worker"):
        shown(1)
    assert look() is None
    assert not tasks.broker.depth("preview")
