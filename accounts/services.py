"""Services of accounts: create, profile, activation, API keys."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import HANDLE, RESERVED_HANDLES, ApiKey, Scope, User
from ipau.common.errors import Conflict, Invalid, NotFound
from ipau.common.postgresql.prepared_queries import PreparedQuery

KEY_START = "ipau_"
# Per account: active keys, and revoked keys that stay listed.
MOST_KEYS = 100
MOST_REVOKED = 100
# Writing the time of last use on each request would turn every read into a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)

_usable_key = PreparedQuery(
    lambda digest: ApiKey.objects.usable().select_related("user").filter(digest=digest), digest=str
)


def find_or_create_user(*, email: str) -> User:
    """Return the account with this address. A new one has no password and a verified address.

    Raises:
        Invalid: the text is not an e-mail address.
    """
    try:
        validate_email(email)
    except ValidationError as error:
        text = _("“%(email)s” is not an e-mail address.") % {"email": email}
        raise Invalid(text, fields={"email": text}) from error
    found = User.objects.filter(email__iexact=email).first()
    if found is not None:
        return found
    user = User.objects.create_user(email)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def update_profile(*, user: User, name: str, handle: str) -> User:
    """Change the name and handle of an account.

    Raises:
        Invalid: the handle has characters that are not allowed, or is too long.
        Conflict: the handle is taken or reserved.
    """
    handle = handle.strip().lower()
    if handle != user.handle:
        _check_handle(handle)
    user.name, user.handle = name.strip(), handle
    try:
        with transaction.atomic():
            user.save(update_fields=["name", "handle", "updated_at"])
    except IntegrityError as error:
        # Only the constraint decides: two requests may ask for the same handle at once.
        user.refresh_from_db(fields=["name", "handle"])
        text = _("This handle is taken. Choose another one.")
        raise Conflict(text, fields={"handle": text}) from error
    return user


def _check_handle(handle: str) -> None:
    if not HANDLE.match(handle) or len(handle) > 39:
        text = _("Use up to 39 lowercase letters, digits and single hyphens between them.")
        raise Invalid(text, fields={"handle": text})
    if handle in RESERVED_HANDLES:
        text = _("This handle is reserved. Choose another one.")
        raise Conflict(text, fields={"handle": text})


def set_users_active(*, users: Collection[User], active: bool, by: User) -> int:
    """Activate or deactivate accounts, except `by` itself. Returns the number changed."""
    ids = [user.pk for user in users if user.pk != by.pk]
    with transaction.atomic():
        changed = User.objects.filter(pk__in=ids).exclude(is_active=active)
        return changed.update(is_active=active, updated_at=timezone.now())


@dataclass(frozen=True)
class NewKey:
    """A new key. `secret` exists only here: it is shown once and never stored."""

    row: ApiKey
    secret: str


def create_api_key(
    *, user: User, name: str, scopes: Collection[str] | None = None, expires_at: datetime | None = None
) -> NewKey:
    """Create an API key with these scopes (default: all).

    Raises:
        Invalid: no name, an unknown scope, no scope at all, an expiry in the past, or too many keys.
    """
    chosen = sorted(set(scopes if scopes is not None else Scope.values))
    if not name.strip():
        text = _("Give the key a name, so that you recognize it later.")
        raise Invalid(text, fields={"name": text})
    if not chosen or not set(chosen) <= set(Scope.values):
        text = _("Choose at least one permission.")
        raise Invalid(text, fields={"scopes": text})
    if expires_at is not None and expires_at <= timezone.now():
        text = _("This expiry is in the past. Choose a later time.")
        raise Invalid(text, fields={"expires_at": text})
    if ApiKey.objects.filter(user=user, revoked_at__isnull=True).count() >= MOST_KEYS:
        raise Invalid(
            _("You have %(n)d API keys, the maximum. Revoke one first.") % {"n": MOST_KEYS},
            code="too_many_keys",
        )
    _delete_old_revoked_keys(user)
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


def _delete_old_revoked_keys(user: User) -> None:
    """Delete the revoked keys of an account, except the newest `MOST_REVOKED`."""
    revoked = ApiKey.objects.filter(user=user, revoked_at__isnull=False).order_by("-id")
    ApiKey.objects.filter(pk__in=list(revoked.values_list("pk", flat=True)[MOST_REVOKED:])).delete()


def revoke_api_key(*, user: User, key_id: UUID) -> ApiKey:
    """Revoke a key at once.

    Raises:
        NotFound: the account has no such key.
    """
    with transaction.atomic():
        key: ApiKey | None = ApiKey.objects.select_for_update().filter(user=user, pk=key_id).first()
        if key is None:
            raise NotFound(_("You have no such API key."))
        if key.revoked_at is None:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at", "updated_at"])
    return key


def find_api_key(*, secret: str) -> ApiKey | None:
    """Return the usable key with this secret, or None. Updates its time of last use."""
    key = _usable_key.first(digest=digest(secret))
    if key is None:
        return None
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        # The condition is repeated in the statement, so that only one of many concurrent requests writes.
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
    return key


def digest(secret: str) -> str:
    """Return the SHA-256 of a key in hexadecimal. A key is 256 random bits, so a slow hash adds nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()
