"""Idempotency keys: a client that repeats a request under the same key gets the object of the first one."""

import hashlib
import json
from typing import Any, BinaryIO, TypeVar

from django.db.models import QuerySet

from ipau.common.errors import Conflict, Invalid

MOST_CHARACTERS = 255
M = TypeVar("M", bound=Any)


def check_key(key: str) -> None:
    """Raise Invalid if a key is empty or too long."""
    if not 0 < len(key) <= MOST_CHARACTERS:
        raise Invalid(
            f"An idempotency key must have 1 to {MOST_CHARACTERS} characters.", code="idempotency_key"
        )


def check_same(is_same: bool) -> None:
    """Raise Conflict if a key is reused for a different request."""
    if not is_same:
        raise Conflict(
            "This idempotency key was used for a different request.", code="idempotency_key_reused"
        )


def digest_of(*parts: object, content: BinaryIO | None = None) -> str:
    """Return the SHA-256 of a request's parameters and content, as hex. Leaves `content` at its start."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    if content is not None:
        content.seek(0)
        while chunk := content.read(1024 * 1024):
            digest.update(chunk)
        content.seek(0)
    return digest.hexdigest()


def find_earlier(rows: QuerySet[M], key: str | None, digest: str) -> M | None:
    """Return the row that an earlier request created under this key; None if there is none, or no key.

    Args:
        rows: the owner's rows, with the columns `idempotency_key` and `request_digest`.

    Raises:
        Conflict: the earlier request was different.
        Invalid: the key is empty or too long.
    """
    if key is None:
        return None
    check_key(key)
    earlier = rows.filter(idempotency_key=key).first()
    check_same(earlier is None or earlier.request_digest == digest)
    return earlier
