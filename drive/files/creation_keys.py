"""Repeated requests: a client that does not know whether its request arrived sends it again under one key."""

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
    """Return what `make` makes, or what it made before under the same key.

    Args:
        request: gives a digest of all that was asked for; the key belongs to this request alone.

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
    check_same(row.request_digest == digest and isinstance(made, kind))
    return cast("T", made)
