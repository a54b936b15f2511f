"""Requests that are sent again: a client that does not know whether one arrived repeats it under its key."""

import hashlib
import json
from typing import Any, BinaryIO, TypeVar

from django.db.models import QuerySet

from ipau.common.errors import Conflict, Invalid

MOST_CHARACTERS = 255
M = TypeVar("M", bound=Any)


def check_key(key: str) -> None:
    """Raise Invalid where a key is empty or too long."""
    if not 0 < len(key) <= MOST_CHARACTERS:
        raise Invalid(f"An idempotency key has 1 to {MOST_CHARACTERS} characters.", code="idempotency_key")


def check_same(is_same: bool) -> None:
    """Raise Conflict where a key comes back with another request."""
    if not is_same:
        raise Conflict("This idempotency key was used for another request.", code="idempotency_key_reused")


def digest_of(*parts: object, content: BinaryIO | None = None) -> str:
    """Return a SHA-256 of what was asked for. Leaves `content` at its start."""
    found = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    if content is not None:
        content.seek(0)
        while chunk := content.read(1024 * 1024):
            found.update(chunk)
        content.seek(0)
    return found.hexdigest()


def find_earlier(rows: QuerySet[M], key: str | None, digest: str) -> M | None:
    """Return the row that an earlier request made under this key; None where there is none, or no key.

    Args:
        rows: the owner's, with the columns `idempotency_key` and `request_digest`.

    Raises:
        Conflict: it was another request.
        Invalid: the key is empty or too long.
    """
    if key is None:
        return None
    check_key(key)
    earlier = rows.filter(idempotency_key=key).first()
    check_same(earlier is None or earlier.request_digest == digest)
    return earlier
