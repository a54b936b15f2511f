"""Idempotency keys: return what an earlier request with the same key created."""

from collections.abc import Callable
from typing import TypeVar, cast

from django.db import IntegrityError, transaction

from accounts.models import User
from drive.models import CreationKey, File, Folder, Share
from ipau.common.errors import Conflict
from ipau.common.idempotency import check_key, check_same

T = TypeVar("T", File, Folder, Share)
_COLUMNS: dict[type, str] = {File: "file", Folder: "folder", Share: "share"}


def make_once(
    *, owner: User, key: str | None, request: Callable[[], str], make: Callable[[], T], kind: type[T]
) -> T:
    """Return the result of `make`, or the row that an earlier request with this key created.

    Args:
        request: returns a digest of the whole request. The key is valid for this request only.

    Raises:
        Conflict: the key was used for another request.
        Invalid: the key is empty or too long.
    """
    if key is None:
        return make()
    check_key(key)
    digest = request()
    if earlier := _earlier(owner, key, digest, kind):
        return earlier
    try:
        # One transaction: of two concurrent requests, the slower one's row is rolled back with its key.
        with transaction.atomic():
            row = make()
            CreationKey.objects.create(owner=owner, key=key, request_digest=digest, **{_COLUMNS[kind]: row})
    except (IntegrityError, Conflict):
        # The faster request may also have taken the name of the folder.
        if earlier := _earlier(owner, key, digest, kind):
            return earlier
        raise
    return row


def _earlier(owner: User, key: str, digest: str, kind: type[T]) -> T | None:
    rows = CreationKey.objects.filter(owner=owner, key=key)
    row = rows.select_related("file", "folder", "share__file", "share__folder").first()
    if row is None:
        return None
    created = getattr(row, _COLUMNS[kind])
    check_same(row.request_digest == digest and isinstance(created, kind))
    return cast("T", created)
