"""ICC profiles: read headers and tags, and write profiles from curves and primaries.

Source: ICC.1:2022, clauses 7, 9 and 10. Nothing here evaluates a profile; `workers.color.conversion` does.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Exponent g and the constants of Y = (aX + b)^g for X >= d, and Y = cX below d.
Curve = tuple[float, float, float, float, float]
# x and y of white, red, green and blue.
Chromaticities = tuple[float, float, float, float, float, float, float, float]

# Profiles of real programs have fewer tags.
MOST_TAGS = 100
D50 = (0.9642, 1.0, 0.8249)
_NEWEST_VERSION = 4
_HEADER_BYTES = 128
_MOST_NUMBER = 32767.0
# The cone responses of Bradford: ICC.1:2022, annex E.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# Number of parameters by function type.
_FUNCTION_NUMBERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}


def is_readable(profile: bytes) -> bool:
    """Return whether this is a complete profile of version 2 or 4."""
    is_whole = int.from_bytes(profile[:4], "big") <= len(profile)
    return is_whole and profile[36:40] == b"acsp" and profile[8] <= _NEWEST_VERSION


def read_data_space(profile: bytes) -> bytes:
    """Return a profile's data color space: b"RGB ", b"GRAY", b"CMYK"."""
    return profile[16:20]


def read_tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile by signature. Tags outside the profile are skipped."""
    if len(profile) < _HEADER_BYTES + 4:
        return {}
    tags: dict[bytes, bytes] = {}
    for index in range(min(MOST_TAGS, _number(profile, _HEADER_BYTES))):
        entry = _HEADER_BYTES + 4 + 12 * index
        if entry + 12 > len(profile):
            break
        start, length = _number(profile, entry + 4), _number(profile, entry + 8)
        if start + length <= len(profile):
            tags.setdefault(profile[entry : entry + 4], profile[start : start + length])
    return tags


def read_xyz(tag: bytes) -> Floats:
    """Return the three values of a tag of type `XYZ`. Raises ValueError for other types."""
    if tag[:4] != b"XYZ " or len(tag) < 20:
        raise ValueError("The tag is not of type XYZ.")
    return np.frombuffer(tag, ">i4", 3, 8) / 65536.0


def without_tags(profile: bytes, signatures: frozenset[bytes]) -> bytes:
    """Return a profile without tags of these signatures. They are renamed."""
    changed = bytearray(profile)
    count = _number(profile, _HEADER_BYTES) if len(profile) >= _HEADER_BYTES + 4 else 0
    for index in range(min(MOST_TAGS, count)):
        entry = _HEADER_BYTES + 4 + 12 * index
        if profile[entry : entry + 4] in signatures:
            changed[entry : entry + 4] = b"\0\0\0\0"
    return bytes(changed)


def write_rgb_profile(chromaticities: Chromaticities, curve: Curve) -> bytes:
    """Return a profile of a color space with these primaries and one curve for all channels.

    Raises:
        ValueError: the primaries are not valid.
    """
    colorants = find_colorants(chromaticities)
    shared = _write_curve(curve)
    tags = {b"wtpt": _write_xyz(D50)}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = _write_xyz(tuple(colorants[:, index]))
        tags[name + b"TRC"] = shared
    return _write_profile(b"RGB ", tags)


def write_gray_profile(curve: Curve) -> bytes:
    """Return a gray profile with this curve."""
    return _write_profile(b"GRAY", {b"wtpt": _write_xyz(D50), b"kTRC": _write_curve(curve)})


def find_colorants(chromaticities: Chromaticities, white: tuple[float, float, float] = D50) -> Floats:
    """Return the matrix from linear RGB to XYZ, adapted by Bradford to another white.

    Raises:
        ValueError: a chromaticity is outside 0 to 1, or the primaries are collinear.
    """
    points = np.array(chromaticities, np.float64).reshape(4, 2)
    if not np.all((points >= 0) & (points <= 1)) or points[0, 1] <= 0:
        raise ValueError("A chromaticity is outside 0 to 1.")
    own_white = np.array([points[0, 0], points[0, 1], 1 - points[0].sum()]) / points[0, 1]
    primaries = np.vstack([points[1:].T, 1 - points[1:].sum(axis=1)])
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError("The primaries are collinear.")
    colorants = primaries * np.linalg.solve(primaries, own_white)
    cones = (_BRADFORD @ np.array(white)) / (_BRADFORD @ own_white)
    adapted: Floats = np.linalg.solve(_BRADFORD, cones[:, None] * _BRADFORD) @ colorants
    if not np.all(np.abs(adapted) < _MOST_NUMBER):
        raise ValueError("The chromaticities are not valid.")
    return adapted


def evaluate_curve(tag: bytes, levels: Floats) -> Floats:
    """Return linear light of levels, both 0 to 1, by a curve of type `curv` or `para`.

    Raises:
        ValueError: the tag is neither, or incomplete.
    """
    if tag[:4] == b"para":
        return np.clip(_evaluate_function(tag, levels), 0.0, 1.0)
    count = _number(tag, 8)
    if tag[:4] != b"curv" or len(tag) < 12 + 2 * count:
        raise ValueError("The tag is not a valid curve.")
    points = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
    if count == 0:
        return levels
    if count == 1:
        curved: Floats = levels ** (points[0] / 256)
        return curved
    return np.interp(levels, np.linspace(0.0, 1.0, count), points / 65535)


def _evaluate_function(tag: bytes, levels: Floats) -> Floats:
    """Evaluate a parametric curve: ICC.1:2022, 10.18."""
    kind = int.from_bytes(tag[8:10], "big")
    count = _FUNCTION_NUMBERS.get(kind, 0)
    if not count or len(tag) < 12 + 4 * count:
        raise ValueError("The tag is not a valid curve.")
    numbers = [value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = numbers + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][count - 1 :]
    if kind in (1, 2):
        # Below -b/a the curve is flat, at 0 or at c.
        c, d, e, f = 0.0, (-b / a if a else 0.0), c, c
    with np.errstate(all="ignore"):
        above = np.maximum(a * levels + b, 0.0) ** g + e
    light: Floats = np.nan_to_num(np.where(levels >= d, above, c * levels + f), posinf=1.0)
    return light


def _write_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    # Version 2, because Little CMS uses black point compensation for version 4, and browsers do not.
    head = struct.pack(">8xI4s4s4s12x4s28x", 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    head += struct.pack(">3i", *map(_fixed, D50))
    at = _HEADER_BYTES + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(bodies), len(body))
        bodies += body + b"\0" * (-len(body) % 4)
    data = head.ljust(_HEADER_BYTES, b"\0") + table + bodies
    return struct.pack(">I", len(data)) + data[4:]


def _write_xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *map(_fixed, values))


def _write_curve(curve: Curve) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *map(_fixed, curve))


def _fixed(value: float) -> int:
    """Return an s15Fixed16Number."""
    return round(max(-_MOST_NUMBER, min(_MOST_NUMBER, float(value))) * 65536)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
