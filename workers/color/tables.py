"""Color conversion with tables and matrices: samples of 8 or 16 bits to linear light to 8-bit sRGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.color.icc import Floats

Lights = NDArray[np.float32]
Bytes = NDArray[np.uint8]
# Unsigned, of 8 or 16 bits.
Samples = NDArray[np.integer[Any]]

# Each pixel takes about 40 bytes during conversion.
_PIXELS_AT_ONCE = 1 << 18
_STEPS = 1 << 16


@dataclass(frozen=True)
class ColorConversion:
    """A conversion by a table of linear light for each level and channel (65,536 rows), and a matrix.

    `scale` returns a factor for each color, and `last` is a second matrix. Both may be None.
    """

    light: Lights
    matrix: Lights
    scale: Callable[[Lights], Lights] | None = None
    last: Lights | None = None

    def convert(self, samples: Samples) -> Bytes:
        """Return sRGB of an array of shape (height, width, 3), in bands of rows."""
        light = self.light[::257] if samples.dtype == np.uint8 else self.light
        result = np.empty(samples.shape, np.uint8)
        rows = max(1, _PIXELS_AT_ONCE // samples.shape[1])
        for top in range(0, samples.shape[0], rows):
            result[top : top + rows] = self._convert_band(samples[top : top + rows], light)
        return result

    def _convert_band(self, samples: Samples, light: Lights) -> Bytes:
        channels = [np.take(light[:, index], samples[..., index]) for index in range(3)]
        colors = np.stack(channels, axis=-1) @ self.matrix.T
        if self.scale is not None:
            colors *= self.scale(colors)[..., None]
        if self.last is not None:
            colors = colors @ self.last.T
        steps = np.clip(colors * np.float32(_STEPS - 1) + np.float32(0.5), 0, _STEPS - 1)
        coded: Bytes = np.take(_make_srgb_table(), steps.astype(np.uint16))
        return coded


def encode_srgb(linear: Floats) -> Floats:
    """Return sRGB of linear light, 0 to 1. IEC 61966-2-1."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )


@lru_cache(maxsize=1)
def _make_srgb_table() -> Bytes:
    table: Bytes = np.rint(255 * encode_srgb(np.arange(_STEPS) / (_STEPS - 1))).astype(np.uint8)
    return table
