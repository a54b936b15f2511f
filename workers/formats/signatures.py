"""The bytes that image files begin with, and images that begin a few bytes too late."""

from __future__ import annotations

import re

from workers.formats import png

SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (png.SIGNATURE,),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "WEBP": (b"RIFF",),
}

# A line break, a byte order mark, or a header of some transfer. More is no image, but a file that holds one.
MOST_STRAY_BYTES = 64
_LATE = {
    "JPEG": re.compile(rb"\xff\xd8\xff[\xc0-\xc4\xdb\xe0-\xef\xfe]"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "AVIF": re.compile(rb"\0\0..ftypavi[fs]", re.DOTALL),
}


def explain_stray_bytes(head: bytes) -> str | None:
    """Return a sentence about an image that begins a few bytes too late, as browsers do not show it.

    Args:
        head: the first bytes of a file that begins as no known format.
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
