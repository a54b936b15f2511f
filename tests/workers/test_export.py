"""What two forms of a model give is held against each other, NaN and infinity too."""

from __future__ import annotations

import numpy as np
import pytest

from workers.export import compare, compare_rows

STRANGE = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("number", STRANGE)
def test_what_is_no_number_is_far_away(number: float) -> None:
    wanted = np.ones((1, 4), np.float32)
    found = wanted.copy()
    found[0, 2] = number
    assert max([0.0, compare(found, wanted)]) == np.inf
    assert compare(wanted, wanted) == 0


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("number", STRANGE)
def test_a_row_with_what_is_no_number(number: float, column: int) -> None:
    wanted = np.array([[[1, 2, 3, 4, 0.5, 0], [1, 2, 5, 4, 0.4, 1]]], np.float32)
    candidates = np.array([[[1, 2, 3, 4, 0.5, 0.1], [1, 2, 5, 4, 0.3, 0.4]]], np.float32)
    found = wanted.copy()
    assert compare_rows(found, wanted, candidates) == 0
    found[0, 1, column] = number
    assert compare_rows(found, wanted, candidates) == np.inf
