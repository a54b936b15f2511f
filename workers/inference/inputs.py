"""Lazy inputs of networks, written directly into the memory that the network reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PlannedInput:
    """An input of known shape. For a model process it is written into shared memory.

    That saves a copy of several megabytes, and the page faults of an array that is used once.

    Attributes:
        write: fills an uninitialized array of the shape. It may be called twice, and must not fail: do
            everything that can fail, such as decoding, before.
    """

    shape: tuple[int, ...]
    write: Callable[[Floats], None]
    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def to_array(self) -> Floats:
        """Return the input as a new array."""
        pixels = np.empty(self.shape, np.float32)
        self.write(pixels)
        return pixels
