"""Signatures of image files, and detection of stray bytes before a signature."""

from __future__ import annotations

import re

from workers.formats import png

SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (png.SIGNATURE,),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "WEBP": (b"RIFF",),
}

# A line break, a byte order mark, or a header of a transfer. With more, the file is not an image.
MOST_STRAY_BYTES = 64
_LATE = {
    "JPEG": re.compile(rb"\xff\xd8\xff[\xc0-\xc4\xdb\xe0-\xef\xfe]"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "AVIF": re.compile(rb"\0\0..ftypavi[fs]", re.DOTALL),
}


def explain_stray_bytes(head: bytes) -> str | None:
    """Return an error message for an image with stray bytes before its signature, or None.

    Args:
        head: the first bytes of a file without a known signature.
    """
    for name, pattern in _LATE.items():
        found = pattern.search(head[: MOST_STRAY_BYTES + 16])
        if found and 0 < found.start() <= MOST_STRAY_BYTES:
            number = "1 stray byte" if found.start() == 1 else f"{found.start()} stray bytes"
            return (
                f"This {name} file is damaged: it has {number} before its beginning. Open it in an image "
                "editor and save it again."
            )
    return None
