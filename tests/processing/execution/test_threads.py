"""Image threads: time limits, and the effect of one thread on the others."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from processing.execution import thread_pool, time_limits
from processing.execution.thread_pool import ThreadPool
from processing.execution.time_limits import TookTooLong, Unwanted, time_limit
from processing.models import Item
from workers.plugin import DeviceLost


def in_thread(call: Callable[[], Any]) -> Any:
    made: list[Any] = []

    def run() -> None:
        try:
            made.append(call())
        except BaseException as error:  # noqa: BLE001  (told to the test)
            made.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return made[0]


def test_time_limit_in_a_thread_applies_at_check() -> None:
    def run() -> None:
        time_limits.check()
        with time_limit(0.05):
            time_limits.check()
            time.sleep(0.1)
            time_limits.check()

    assert isinstance(in_thread(run), TookTooLong)
    assert time_limits.running_in_threads() == {}


def test_unwanted_block_in_a_thread_does_not_start() -> None:
    def run() -> None:
        with time_limit(30, is_wanted=lambda: False):
            raise AssertionError

    assert isinstance(in_thread(run), Unwanted)
    assert time_limits.running_in_threads() == {}


def test_time_limits_of_threads_are_independent() -> None:
    with time_limit(30):
        found = in_thread(lambda: time_limits.running_in_threads())
        assert found == {}
        time_limits.check()
        assert time_limits.running() is not None


@pytest.mark.parametrize("error", [DeviceLost(), ValueError("ours")])
def test_exception_in_a_thread_stops_all_threads(error: Exception) -> None:
    items = [Item(position=position) for position in range(20)]
    ran: list[int] = []

    def run(item: Item) -> None:
        ran.append(item.position)
        if item.position == 1:
            raise error
        time.sleep(0.05)

    pool = ThreadPool(items, run)
    if isinstance(error, DeviceLost):
        chunk = pool.work(2, ends=float("inf"), keep_going=lambda: True)
        assert chunk.is_broken
        assert len(chunk.left) + len(ran) == 20
    else:
        with pytest.raises(ValueError, match="ours"):
            pool.work(2, ends=float("inf"), keep_going=lambda: True)
    assert len(ran) < 6
    assert pool.running() == 0


def test_pool_returns_right_after_the_last_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "TICK", 20.0)
    begun = time.monotonic()
    ThreadPool([Item(), Item()], lambda _: None).work(2, ends=float("inf"), keep_going=lambda: True)
    assert time.monotonic() - begun < thread_pool.TICK / 2


def test_first_image_runs_even_without_time() -> None:
    items = [Item(position=position) for position in range(5)]
    chunk = ThreadPool(items, lambda _: time.sleep(0.1)).work(3, ends=0, keep_going=lambda: True)
    assert len(chunk.left) == 4
