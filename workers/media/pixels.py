"""Pixels of a Pillow image as an array, without a copy where its memory is in one piece.

Source: the Arrow C data interface, https://arrow.apache.org/docs/format/CDataInterface.html. NumPy's
own way packs three of the four bytes that Pillow keeps for a pixel, and copies them: 5 ms for 4 megapixels.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


class _Array(ctypes.Structure):
    """`struct ArrowArray`, up to what is read here."""


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
]
_get_pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class _Owner:
    """Keeps Pillow's memory for as long as an array looks into it."""

    def __init__(self, image: Image.Image, capsule: object, address: int, shape: tuple[int, ...]) -> None:
        self._kept = image, capsule
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": "|u1", "data": (address, True)}


def view_pixels(image: Image.Image) -> Bytes:
    """Return the pixels of an image in mode RGB or L: (height, width, 4), of which the last is no color, or
    (height, width). They are a view where possible, not to be written; otherwise a copy, (height, width, 3).
    """
    depth = {"RGB": 4, "L": 1}.get(image.mode)
    if depth is None:
        return np.asarray(image)
    try:
        _, capsule = image.__arrow_c_array__()
    except (ValueError, MemoryError):
        # Large images lie in several pieces.
        return np.asarray(image)
    array = _Array.from_address(_get_pointer(capsule, b"arrow_array"))
    inner = array.children[0].contents if array.n_children else array
    count = image.width * image.height * depth
    if inner.length != count or inner.offset or inner.n_buffers != 2 or not inner.buffers[1]:
        return np.asarray(image)
    shape = (image.height, image.width, depth) if depth > 1 else (image.height, image.width)
    return np.asarray(_Owner(image, capsule, inner.buffers[1], shape))
