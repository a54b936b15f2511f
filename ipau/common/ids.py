"""Identifiers: UUIDs of version 7, which sort by creation time."""

import os
import time
import uuid
from uuid import UUID

from django.utils.translation import gettext as _

from ipau.common.errors import NotFound


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7): 48 bits of Unix milliseconds, 74 random bits.

    Because it is ordered, it works as a keyset cursor and keeps index pages in the cache.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    value |= (random >> 68) << 64
    value |= 0b10 << 62
    value |= random & (1 << 62) - 1
    return uuid.UUID(int=value)


def as_uuid(value: object) -> UUID:
    """Parse an id from a request. Raises NotFound if it is not a UUID."""
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError as error:
        raise NotFound(_("This does not exist.")) from error
