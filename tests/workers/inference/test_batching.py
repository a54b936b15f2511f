"""Dynamic batching: batch limits, waiting, and isolation of failing requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from workers.inference.batching import Batcher
from workers.plugin import DeviceLost

Floats = np.ndarray


class Doubling:
    """Doubles its inputs, and records its batches. Fails as configured."""

    def __init__(self, *, room: int = 10**6, seconds: float = 0.0) -> None:
        self.room = room
        self.seconds = seconds
        self.batches: list[tuple[int, ...]] = []
        self.at_once = self.most_at_once = self.answered = 0
        self.is_lost = False
        self._gate = threading.Event()
        self._gate.set()

    def close(self) -> None:
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def enter(self, pixels: Floats, /) -> Floats:
        return pixels

    def start(self, inputs: Sequence[Floats], /) -> Any:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self._gate.wait(10)
            together = np.concatenate(inputs)
            self.batches.append(together.shape)
            time.sleep(self.seconds)
            if self.is_lost:
                raise DeviceLost
            if len(together) > self.room:
                raise MemoryError
            if (together < 0).any():
                raise ValueError("a number below zero")
            return together * 2, [len(one) for one in inputs]
        finally:
            self.at_once -= 1

    def finish(self, started: Any, /) -> list[list[Floats]]:
        made, counts = started
        self.answered += len(counts)
        return [[part] for part in np.split(made, np.cumsum(counts)[:-1])]


def picture(value: float, *, side: int = 2, count: int = 1) -> Floats:
    return np.full((count, 3, side, side), value, np.float32)


def ask_at_once(batcher: Batcher, inputs: Sequence[Floats]) -> list[Any]:
    """Run each input in its own thread; return the answers or exceptions."""
    answers: list[Any] = [None] * len(inputs)
    network: Any = batcher._network
    ended = network.answered + len(inputs)

    def running() -> int:
        # As in a slot: a thread that has its result does not come again, and is not waited for.
        return int(ended - network.answered)

    def ask(index: int) -> None:
        try:
            answers[index] = batcher.run(inputs[index], running)[0]
        except Exception as error:  # noqa: BLE001  (looked at below)
            answers[index] = error

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return answers


def patient(network: Doubling, **settings: Any) -> Batcher:
    """Return a batcher that waits for all threads of a test, even on a busy machine."""
    return Batcher(network, max_wait=5.0, **settings)


def test_waiting_requests_share_a_batch_and_get_their_own_outputs() -> None:
    network = Doubling()
    answers = ask_at_once(patient(network), [picture(value) for value in range(6)])
    assert network.batches == [(6, 3, 2, 2)]
    assert [answer.shape for answer in answers] == [(1, 3, 2, 2)] * 6
    assert [float(answer.max()) for answer in answers] == [0, 2, 4, 6, 8, 10]


def test_a_single_thread_does_not_wait() -> None:
    network = Doubling()
    batcher = patient(network)
    begun = time.monotonic()
    for value in range(20):
        assert batcher.run(picture(value))[0].max() == 2 * value
    assert time.monotonic() - begun < 4
    assert network.batches == [(1, 3, 2, 2)] * 20


def test_a_batch_waits_no_longer_than_its_maximum() -> None:
    network = Doubling()
    begun = time.monotonic()
    assert Batcher(network, max_wait=0.05).run(picture(3), lambda: 8)[0].max() == 6
    assert 0.05 <= time.monotonic() - begun < 2


def test_batch_limits_hold() -> None:
    network = Doubling()
    ask_at_once(patient(network, most_images=4), [picture(1) for _ in range(10)])
    assert sum(shape[0] for shape in network.batches) == 10
    assert max(shape[0] for shape in network.batches) == 4
    assert len(network.batches) == 3
    network = Doubling()
    ask_at_once(patient(network, most_bytes=3 * picture(1).nbytes), [picture(1) for _ in range(6)])
    assert [shape[0] for shape in network.batches] == [3, 3]


def test_an_input_of_several_images_stays_whole() -> None:
    network = Doubling()
    answers = ask_at_once(
        patient(network, most_images=4), [picture(1, count=3), picture(2, count=3), picture(3, count=9)]
    )
    assert [len(answer) for answer in answers] == [3, 3, 9]
    assert sorted(shape[0] for shape in network.batches) == [3, 3, 9]


def test_only_images_of_one_shape_share_a_batch() -> None:
    network = Doubling()
    answers = ask_at_once(patient(network), [picture(side, side=side) for side in (2, 3, 2, 3, 2)])
    assert [answer.shape[-1] for answer in answers] == [2, 3, 2, 3, 2]
    assert all(answer.max() == 2 * answer.shape[-1] for answer in answers)
    assert sorted(network.batches) == [(2, 3, 3, 3), (3, 3, 2, 2)]


def test_a_bad_input_fails_no_other() -> None:
    network = Doubling()
    answers = ask_at_once(patient(network), [picture(value) for value in (1, 2, -1, 3)])
    assert isinstance(answers[2], ValueError)
    assert [float(answer.max()) for index, answer in enumerate(answers) if index != 2] == [2, 4, 6]
    assert network.batches[0] == (4, 3, 2, 2)
    assert sorted(network.batches[1:]) == [(1, 3, 2, 2)] * 4


def test_out_of_memory_makes_later_batches_smaller() -> None:
    network = Doubling(room=2)
    batcher = patient(network)
    answers = ask_at_once(batcher, [picture(value) for value in range(8)])
    assert [float(answer.max()) for answer in answers] == [2 * value for value in range(8)]
    assert [shape[0] for shape in network.batches] == [8, 4, 2, 2, 2, 2]
    ask_at_once(batcher, [picture(value) for value in range(4)])
    assert [shape[0] for shape in network.batches[6:]] == [2, 2]
    # The lower limit applies to this shape only.
    network.room = 100
    ask_at_once(batcher, [picture(value, side=3) for value in range(4)])
    assert network.batches[-1][0] == 4


def test_an_input_that_does_not_fit_fails_alone() -> None:
    network = Doubling(room=2)
    # A thread that fails is waited for to the end.
    answers = ask_at_once(Batcher(network, max_wait=0.5), [picture(1), picture(2, count=3), picture(3)])
    assert isinstance(answers[1], MemoryError)
    assert (answers[0].max(), answers[2].max()) == (2, 6)


def test_a_lost_device_fails_all_requests() -> None:
    network = Doubling()
    network.is_lost = True
    answers = ask_at_once(patient(network), [picture(value) for value in range(4)])
    assert all(isinstance(answer, DeviceLost) for answer in answers)
    assert len(network.batches) == 1


def test_the_network_is_run_by_one_thread_at_a_time() -> None:
    network = Doubling(seconds=0.001)
    batcher = Batcher(network, most_images=3, max_wait=0.0005)
    wrong: list[Any] = []

    def ask(first: int) -> None:
        for value in range(first, first + 40):
            answer = batcher.run(picture(value, side=2 + value % 2), lambda: 8)[0]
            if answer.shape != (1, 3, 2 + value % 2, 2 + value % 2) or answer.max() != 2 * value:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(100 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert network.most_at_once == 1
    assert sum(shape[0] for shape in network.batches) == 8 * 40


class Interruption(BaseException):
    """An exception raised by a signal handler."""


def test_an_interrupted_request_is_removed() -> None:
    network = Doubling()
    batcher = patient(network)

    def interrupted() -> int:
        raise Interruption

    with pytest.raises(Interruption):
        batcher.run(picture(1), interrupted)
    assert batcher.run(picture(2))[0].max() == 4
    assert network.batches == [(1, 3, 2, 2)]


def test_an_interrupted_leader_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Doubling()
    # The two that are left wait for the third to the end.
    batcher = Batcher(network, max_wait=0.5)
    start, interrupted = network.start, []

    def start_once(inputs: Sequence[Floats]) -> Any:
        if not interrupted:
            interrupted.append(threading.current_thread())
            raise Interruption
        return start(inputs)

    monkeypatch.setattr(network, "start", start_once)
    answers: dict[threading.Thread, Any] = {}

    def ask(value: int) -> None:
        try:
            answers[threading.current_thread()] = batcher.run(picture(value), lambda: 3)[0].max()
        except Interruption as error:
            answers[threading.current_thread()] = error

    threads = [threading.Thread(target=ask, args=(value,)) for value in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    (leader,) = interrupted
    assert isinstance(answers[leader], Interruption)
    assert sorted(answers[thread] for thread in threads if thread is not leader) == sorted(
        2 * value for value, thread in enumerate(threads, 1) if thread is not leader
    )


def test_the_next_batch_starts_before_the_last_one_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Doubling()
    batcher = Batcher(network, max_wait=0)
    finish: Callable[[Any], Any] = network.finish
    second_began = threading.Event()
    begun: list[bool] = []

    def wait(started: Any) -> Any:
        begun.append(True)
        if len(begun) == 1:
            assert second_began.wait(10)
        else:
            second_began.set()
        return finish(started)

    monkeypatch.setattr(network, "finish", wait)
    answers = ask_at_once(batcher, [picture(1), picture(2, side=3)])
    assert [answer.max() for answer in answers] == [2, 4]
