"""Scale samples of any number type to 8 bits.

| samples | black | white |
|---|---|---|
| unsigned, up to 16 bits | 0 | the largest number of that type |
| signed, 8 and 16 bits | the smallest number; 0 if none is negative | the largest number |
| unsigned, 32 and 64 bits | 0 | 255, 65,535 or the largest sample: the first that is not exceeded |
| signed, 32 and 64 bits | 0, or minus white if some are negative | as unsigned; 127 and 32,767 too |
| floating point | 0 | 1, 255, 65,535 or the largest sample: the first that is not exceeded |

If only few floating-point samples are above 1, they are highlights, and white stays 1. NaN is black.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]
Bytes = NDArray[np.uint8]

# The largest share of the samples above black that may be highlights.
MOST_HIGHLIGHTS = 0.05
_BYTE, _WORD = 255.0, 65535.0
_BAND_SAMPLES = 1024 * 1024


def scale_unsigned(values: Samples, bits: int) -> Bytes:
    """Return unsigned samples of at most 16 bits as bytes, rounded."""
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    largest = (1 << bits) - 1
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)


def scale_to_words(values: Samples, bits: int) -> Samples:
    """Return unsigned samples of at most 16 bits as uint16, rounded."""
    if bits == 16:
        return values
    largest = (1 << bits) - 1
    return ((values.astype(np.uint32) * 65535 + largest // 2) // largest).astype(np.uint16)


def scale_by_range(values: Samples) -> Bytes:
    """Return samples as bytes, scaled by their range: signed, floating-point, or of 32 bits and more.

    Args:
        values: all color samples of an image, or all of its alpha samples, in the file's number type.
    """
    find_range = _find_float_range if values.dtype.kind == "f" else _find_integer_range
    black, white = find_range(values)
    scaled = np.empty(values.shape, np.uint8)
    for band, target in zip(_bands(values), _bands(scaled), strict=True):
        shares = (_to_floats(band) - np.float32(black)) * np.float32(255.0 / (white - black))
        shares += np.float32(0.5)
        target[:] = np.clip(shares, 0, 255, out=shares)
    return scaled


def _bands(values: Samples) -> Iterator[Samples]:
    """Yield views of some rows, so that temporary arrays stay small."""
    rows = max(1, _BAND_SAMPLES * len(values) // max(1, values.size))
    for first in range(0, len(values), rows):
        yield values[first : first + rows]


def _to_floats(band: Samples) -> NDArray[np.float32]:
    """Return single-precision values, with 0 for NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = band.astype(np.float32)
    return np.nan_to_num(numbers, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _find_integer_range(values: Samples) -> tuple[float, float]:
    lowest, top = float(values.min(initial=0)), float(values.max(initial=0))
    if values.dtype.kind == "i" and values.dtype.itemsize <= 2:
        limits = np.iinfo(values.dtype)
        return (float(limits.min) if lowest < 0 else 0.0), float(limits.max)
    if lowest < 0:
        largest = max(-lowest - 1, top)
        half = next((half for half in (127.0, 32767.0) if largest <= half), largest)
        return -half - 1, half
    if top <= 1:
        return 0.0, _WORD
    return 0.0, next((full for full in (_BYTE, _WORD) if top <= full), top)


def _find_float_range(values: Samples) -> tuple[float, float]:
    top, above, visible = 0.0, 0, 0
    for band in _bands(values):
        numbers = _to_floats(band)
        top = max(top, float(numbers.max(initial=0.0, where=np.isfinite(numbers))))
        above += int(np.count_nonzero(numbers > 1))
        visible += int(np.count_nonzero(numbers > 0))
    if above <= MOST_HIGHLIGHTS * visible:
        return 0.0, 1.0
    return 0.0, next((full for full in (1.0, _BYTE, _WORD) if top <= full), top)
