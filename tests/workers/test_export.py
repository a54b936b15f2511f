"""Comparison of the outputs of two forms of a model, including NaN and infinity."""

from __future__ import annotations

import numpy as np
import pytest

from workers.export import compare, compare_rows

NOT_FINITE = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("number", NOT_FINITE)
def test_a_value_that_is_not_finite_is_infinitely_different(number: float) -> None:
    wanted = np.ones((1, 4), np.float32)
    found = wanted.copy()
    found[0, 2] = number
    assert max([0.0, compare(found, wanted)]) == np.inf
    assert compare(wanted, wanted) == 0


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("number", NOT_FINITE)
def test_a_row_with_a_value_that_is_not_finite(number: float, column: int) -> None:
    wanted = np.array([[[1, 2, 3, 4, 0.5, 0], [1, 2, 5, 4, 0.4, 1]]], np.float32)
    candidates = np.array([[[1, 2, 3, 4, 0.5, 0.1], [1, 2, 5, 4, 0.3, 0.4]]], np.float32)
    found = wanted.copy()
    assert compare_rows(found, wanted, candidates) == 0
    found[0, 1, column] = number
    assert compare_rows(found, wanted, candidates) == np.inf
