"""Convert HDR images (PQ and HLG) to sRGB, as browsers show them on standard displays.

The curves are those of ITU-R BT.2100-2. Diffuse white is 203 cd/m², as in ITU-R BT.2408. The reference white
tone mapping operator (SMPTE ST 2094-50, annex C) compresses the strongest channel and scales the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from workers.color.cicp import BT709, BT2020, PQ, PRIMARIES, CodePoints
from workers.color.icc import Floats, find_colorants
from workers.color.tables import ColorConversion, Lights

_WHITE = 203.0
_DEFAULT_PEAK = 1000.0
_MOST_HEADROOM = 6.0
# The reference display of HLG, in cd/m², and its gamma.
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_KAPPA = 0.65


@lru_cache(maxsize=8)
def make_hdr_conversion(space: CodePoints) -> ColorConversion:
    """Return the conversion to sRGB of code points whose transfer is PQ or HLG."""
    levels = np.arange(65536) / 65535.0
    light = _from_pq(levels) if space.transfer == PQ else _from_hlg(levels)
    wide, own, narrow = (find_colorants(PRIMARIES[code]) for code in (BT2020, space.primaries, BT709))
    compress = _make_compression(space.peak or _DEFAULT_PEAK)
    return ColorConversion(
        np.repeat(light[:, None], 3, axis=1).astype(np.float32),
        np.linalg.solve(wide, own).astype(np.float32),
        lambda colors: _find_factors(colors, compress, is_hlg=space.transfer != PQ),
        np.linalg.solve(narrow, wide).astype(np.float32),
    )


def _find_factors(colors: Lights, compress: Callable[[Lights], Lights], is_hlg: bool) -> Lights:
    strongest = colors.max(axis=-1)
    if not is_hlg:
        return compress(strongest)
    # From scene light to display light: BT.2100-2, table 5.
    display = np.maximum(colors @ _BT2020_LUMA, np.float32(1e-9)) ** np.float32(_HLG_GAMMA - 1)
    display *= np.float32(_HLG_PEAK / _WHITE)
    factors: Lights = display * compress(strongest * display)
    return factors


def _from_pq(levels: Floats) -> Floats:
    """Return light relative to diffuse white. BT.2100-2, table 4."""
    root = levels ** (32 / 2523)
    base = np.maximum(root - 107 / 128, 0.0) / (2413 / 128 - 2392 / 128 * root)
    light: Floats = 10_000 / _WHITE * base ** (8192 / 1305)
    return light


def _from_hlg(levels: Floats) -> Floats:
    """Return scene light, 0 to 1. BT.2100-2, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - c) / a) + b) / 12)


def _make_compression(peak: float) -> Callable[[Lights], Lights]:
    """Return a function from the strongest channel, relative to diffuse white, to a factor for all channels.

    Up to white the curve is linear. Above it is a quadratic Bézier curve that ends horizontally at the peak.
    """
    headroom = min(_MOST_HEADROOM, max(0.0, float(np.log2(peak / _WHITE))))
    if headroom == 0.0:
        return np.ones_like
    white = 1 - 0.5 * min(1.0, headroom / float(np.log2(_DEFAULT_PEAK / _WHITE)))
    most = 2.0**headroom
    x_mid = (1 - _KAPPA) + _KAPPA / white
    y_mid = (1 - _KAPPA) * white + _KAPPA
    x_a, x_b = 1 - 2 * x_mid + most, 2 * x_mid - 2
    y_a, y_b = white - 2 * y_mid + 1, 2 * (y_mid - white)

    def compress(strongest: Lights) -> Lights:
        x = np.clip(strongest, 1.0, most)
        # The root of x_a t² + x_b t + 1 - x, in the form that is stable for an x_a near 0.
        t = 2 * (x - 1) / (x_b + np.sqrt(np.maximum(x_b**2 + 4 * x_a * (x - 1), 0.0)))
        above = (white + t * (y_b + t * y_a)) / np.maximum(strongest, 1.0)
        factors: Lights = np.where(strongest <= 1, white, above).astype(np.float32)
        return factors

    return compress
