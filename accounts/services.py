"""What people do with their account: profile and API keys."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts.models import ApiKey, Scope, User
from ipau.common.errors import Invalid, NotFound

KEY_START = "ipau_"
# Writing the time of last use on each request would make every read a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True)
class NewKey:
    """A key just made. `secret` exists only here: it is shown once and never stored."""

    row: ApiKey
    secret: str


def create_api_key(
    *, user: User, name: str, scopes: Collection[str] | None = None, expires_at: datetime | None = None
) -> NewKey:
    """Make a key with the given scopes (all of them by default).

    Raises:
        Invalid: no name, an unknown scope, no scope at all, or an expiry in the past.
    """
    chosen = sorted(set(scopes if scopes is not None else Scope.values))
    if not name.strip():
        raise Invalid("Give the key a name, so that you recognise it later.", fields={"name": "Required."})
    if not chosen or not set(chosen) <= set(Scope.values):
        raise Invalid("Choose what the key may do.", fields={"scopes": "Choose at least one."})
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid("This expiry lies in the past.", fields={"expires_at": "Choose a later time."})
    secret = KEY_START + secrets.token_urlsafe(32)
    row = ApiKey.objects.create(
        user=user,
        name=name.strip()[:60],
        prefix=secret[: len(KEY_START) + 4],
        digest=digest(secret),
        scopes=chosen,
        expires_at=expires_at,
    )
    return NewKey(row=row, secret=secret)


def revoke_api_key(*, user: User, key_id: object) -> ApiKey:
    """End a key at once.

    Raises:
        NotFound: the person has no such key.
    """
    with transaction.atomic():
        key: ApiKey | None = ApiKey.objects.select_for_update().filter(user=user, pk=key_id).first()
        if key is None:
            raise NotFound("You have no such key.")
        if key.revoked_at is None:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at", "updated_at"])
    return key


def find_api_key(*, secret: str) -> ApiKey | None:
    """Return the usable key with this secret and note its use, or None."""
    key: ApiKey | None = ApiKey.objects.usable().select_related("user").filter(digest=digest(secret)).first()
    if key is None:
        return None
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def digest(secret: str) -> str:
    """Return the SHA-256 of a key in hexadecimal. A key is 256 random bits, so a slow hash adds nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()
