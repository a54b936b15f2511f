"""Repeated requests: a client that does not know whether its request arrived sends it again under one key."""

import hashlib
import json
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from django.db import IntegrityError, transaction

from accounts.models import User
from drive.models import CreationKey, File, Folder, Share
from ipau.common.errors import Conflict, Invalid

T = TypeVar("T", File, Folder, Share)
_COLUMNS: dict[type, str] = {File: "file", Folder: "folder", Share: "share"}


def make_once(
    *, owner: User, key: str | None, request: Callable[[], str], make: Callable[[], T], kind: type[T]
) -> T:
    """Return what `make` makes, or what it made before under the same key.

    Args:
        request: gives a digest of all that was asked for; the key belongs to this request alone.

    Raises:
        Conflict: the key was used for another request.
        Invalid: the key is empty or too long.
    """
    if key is None:
        return make()
    if not key or len(key) > 255:
        raise Invalid("An idempotency key has 1 to 255 characters.", code="idempotency_key")
    digest = request()
    if earlier := _earlier(owner, key, digest, kind):
        return earlier
    try:
        # Together: when two requests come at once, the slower one's file goes with its key.
        with transaction.atomic():
            made = make()
            CreationKey.objects.create(owner=owner, key=key, request_digest=digest, **{_COLUMNS[kind]: made})
    except (IntegrityError, Conflict):
        # The faster one may also have taken the name of our folder.
        if earlier := _earlier(owner, key, digest, kind):
            return earlier
        raise
    return made


def _earlier(owner: User, key: str, digest: str, kind: type[T]) -> T | None:
    rows = CreationKey.objects.filter(owner=owner, key=key)
    row = rows.select_related("file", "folder", "share__file", "share__folder").first()
    if row is None:
        return None
    made = getattr(row, _COLUMNS[kind])
    if row.request_digest != digest or not isinstance(made, kind):
        raise Conflict("This idempotency key was used for another request.", code="idempotency_key_reused")
    return made


def digest_of(*parts: object, content: BinaryIO | None = None) -> str:
    """Return a SHA-256 of what was asked for. Leaves `content` at its start."""
    found = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    if content is not None:
        content.seek(0)
        while chunk := content.read(1024 * 1024):
            found.update(chunk)
        content.seek(0)
    return found.hexdigest()
