"""Planned inputs, written directly into shared memory, give the same outputs as arrays."""

from __future__ import annotations

import numpy as np
import pytest

from tests.workers.inference import bombs
from tests.workers.inference.test_model_process import Graph
from workers.inference.inputs import PlannedInput
from workers.inference.model_process import ModelProcess
from workers.inference.sessions import get_session, open_session
from workers.plugin import Context


def _ramp(target: np.ndarray) -> None:
    target[...] = np.linspace(0, 1, target.size, dtype=np.float32).reshape(target.shape)


@pytest.fixture
def planned() -> PlannedInput:
    return PlannedInput((1, 3, 32, 32), _ramp)


def test_a_planned_input_gives_the_same_outputs_as_its_array(planned: PlannedInput) -> None:
    session = get_session(Context(model=Graph(bombs.harmless())))
    assert session.takes_planned
    for one, other in zip(session.run(planned), session.run(planned.to_array()), strict=True):
        assert np.array_equal(one, other)


def test_a_session_of_this_process_takes_it_as_an_array(planned: PlannedInput) -> None:
    session = open_session(bombs.harmless())
    assert not session.takes_planned
    assert np.array_equal(session.run(planned)[0], session.run(planned.to_array())[0])


def test_a_planned_input_overwrites_the_previous_input(planned: PlannedInput) -> None:
    process = ModelProcess(bombs.harmless(), keeps_memory=True, seconds=10)
    try:
        wanted = process.run(planned, seconds=10)
        process.run(np.full((1, 3, 32, 32), 7, np.float32), seconds=10)
        for one, other in zip(process.run(planned, seconds=10), wanted, strict=True):
            assert np.array_equal(one, other)
    finally:
        process.kill()


def test_its_bytes_are_those_of_its_array(planned: PlannedInput) -> None:
    assert planned.nbytes == planned.to_array().nbytes
