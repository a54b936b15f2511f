"""Images of high dynamic range (PQ and HLG) brought to sRGB as browsers show them on ordinary displays.

The curves are those of ITU-R BT.2100-2. Diffuse white is 203 cd/m², as in ITU-R BT.2408. The reference white
tone mapping operator (SMPTE ST 2094-50, annex C) compresses the strongest channel and scales the others.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from workers.cicp import BT709, BT2020, PQ, PRIMARIES, CodePoints
from workers.icc import Chromaticities, find_colorants

Floats = NDArray[np.float64]

_WHITE = 203.0
_DEFAULT_PEAK = 1000.0
_MOST_HEADROOM = 6.0
# The reference display of HLG, in cd/m², and its gamma.
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593])
_KAPPA = 0.65
_GRID = 65


def convert_hdr(image: Image.Image, space: CodePoints) -> Image.Image:
    """Return an opaque image of mode RGB in sRGB."""
    return image.filter(_make_color_table(space))


@lru_cache(maxsize=4)
def _make_color_table(space: CodePoints) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0.0, 1.0, _GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colors = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    return ImageFilter.Color3DLUT(_GRID, find_srgb(colors, space).astype(np.float32).ravel().tolist())


def find_srgb(colors: Floats, space: CodePoints) -> Floats:
    """Return sRGB of coded colors: both arrays of shape (n, 3), 0 to 1."""
    light = _from_pq(colors) if space.transfer == PQ else _from_hlg(colors)
    primaries = _find_primaries(space)
    wide = light @ (np.linalg.solve(find_colorants(PRIMARIES[BT2020]), find_colorants(primaries))).T
    mapped = wide * _find_gain(wide.max(axis=1), space.peak or _DEFAULT_PEAK)[:, None]
    linear = mapped @ (np.linalg.solve(find_colorants(PRIMARIES[BT709]), find_colorants(PRIMARIES[BT2020]))).T
    return encode_srgb(np.clip(linear, 0.0, 1.0))


def _find_primaries(space: CodePoints) -> Chromaticities:
    return PRIMARIES.get(space.primaries, PRIMARIES[BT709])


def encode_srgb(linear: Floats) -> Floats:
    """Return sRGB of linear light, 0 to 1. IEC 61966-2-1."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )


def _from_pq(colors: Floats) -> Floats:
    """Return light relative to diffuse white. BT.2100-2, table 4."""
    root = colors ** (32 / 2523)
    base = np.maximum(root - 107 / 128, 0.0) / (2413 / 128 - 2392 / 128 * root)
    light: Floats = 10_000 / _WHITE * base ** (8192 / 1305)
    return light


def _from_hlg(colors: Floats) -> Floats:
    """Return light of the reference display relative to diffuse white. BT.2100-2, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(colors <= 0.5, colors**2 / 3, (np.exp((colors - c) / a) + b) / 12)
    luminance = (scene @ _BT2020_LUMA)[:, None]
    light: Floats = _HLG_PEAK / _WHITE * np.maximum(luminance, 1e-9) ** (_HLG_GAMMA - 1) * scene
    return light


def _find_gain(strongest: Floats, peak: float) -> Floats:
    """Return factors for light whose strongest channel is given relative to diffuse white.

    Up to white the curve is a line, and above it a quadratic Bézier curve that ends level at the peak.
    """
    headroom = min(_MOST_HEADROOM, max(0.0, float(np.log2(peak / _WHITE))))
    if headroom == 0.0:
        return np.ones_like(strongest)
    white = 1 - 0.5 * min(1.0, headroom / float(np.log2(_DEFAULT_PEAK / _WHITE)))
    most = 2.0**headroom
    x_mid = (1 - _KAPPA) + _KAPPA / white
    y_mid = (1 - _KAPPA) * white + _KAPPA
    x_a, x_b = 1 - 2 * x_mid + most, 2 * x_mid - 2
    y_a, y_b = white - 2 * y_mid + 1, 2 * (y_mid - white)
    x = np.clip(strongest, 1.0, most)
    # The root of x_a t² + x_b t + 1 - x, in the form that bears an x_a near 0.
    t = 2 * (x - 1) / (x_b + np.sqrt(np.maximum(x_b**2 + 4 * x_a * (x - 1), 0.0)))
    above: Floats = (white + t * (y_b + t * y_a)) / np.maximum(strongest, 1.0)
    return np.where(strongest <= 1, white, above)
