"""Coding-independent code points (CICP): numbers for color primaries and transfer curves.

Source: ITU-T H.273 (07/2024), tables 2 and 3. Curves are those of displays, as in browsers: the camera curves
of BT.709 and similar standards mean a display of gamma 2.4 (BT.1886).
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.color.icc import Chromaticities, Curve

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
BT709, BT2020 = 1, 9
SRGB, PQ, HLG = 13, 16, 18
UNSPECIFIED = 2

PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}

SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# BT.709, BT.601, xvYCC, BT.1361 and BT.2020, which differ only outside 0 to 1.
CAMERA_CURVES = frozenset({1, 6, 11, 12, 14, 15})
LOGARITHMIC = frozenset({9, 10})


def gamma_curve(exponent: float) -> Curve:
    """Return a pure power curve."""
    return (exponent, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CodePoints:
    """The color space of an image by code points. `peak` is its peak luminance in cd/m², 0 if unknown."""

    primaries: int
    transfer: int
    peak: float = 0.0


_BT1886 = gamma_curve(2.4)


CURVES: dict[int, Curve] = {
    1: _BT1886,
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    6: _BT1886,
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 0.25, 0.0912),
    8: gamma_curve(1.0),
    11: _BT1886,
    13: SRGB_CURVE,
    14: _BT1886,
    15: _BT1886,
    17: (2.6, (52.37 / 48) ** (1 / 2.6), 0.0, 0.0, 0.0),
}
