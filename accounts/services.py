"""What people do with their account: profile and API keys."""

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
# Keys of one person that are not revoked, and revoked ones that stay listed.
MOST_KEYS = 100
MOST_REVOKED = 100
# Writing the time of last use on each request would make every read a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)

_usable_key = PreparedQuery(
    lambda digest: ApiKey.objects.usable().select_related("user").filter(digest=digest), digest=str
)


def find_or_create_user(*, email: str) -> User:
    """Return the user with this address; a new one has no password and a verified address.

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
    """Change what others see of a person.

    Raises:
        Invalid: the handle has characters or a length that an address cannot have.
        Conflict: somebody else has the handle, or the site keeps it for itself.
    """
    handle = handle.strip().lower()
    if handle != user.handle:
        _check_handle(handle)
    user.name, user.handle = name.strip(), handle
    try:
        with transaction.atomic():
            user.save(update_fields=["name", "handle", "updated_at"])
    except IntegrityError as error:
        # The constraint decides, not a look beforehand: two people may ask for one handle at once.
        user.refresh_from_db(fields=["name", "handle"])
        text = _("Somebody else has this handle. Choose another.")
        raise Conflict(text, fields={"handle": text}) from error
    return user


def _check_handle(handle: str) -> None:
    if not HANDLE.match(handle) or len(handle) > 39:
        text = _("Use up to 39 small letters, digits and single dashes between them.")
        raise Invalid(text, fields={"handle": text})
    if handle in RESERVED_HANDLES:
        text = _("This handle is kept for the site itself. Choose another.")
        raise Conflict(text, fields={"handle": text})


def set_users_active(*, users: Collection[User], active: bool, by: User) -> int:
    """Let people in or keep them out; whoever asks never locks themselves out. Returns how many changed."""
    wanted = [user.pk for user in users if user.pk != by.pk]
    with transaction.atomic():
        changed = User.objects.filter(pk__in=wanted).exclude(is_active=active)
        return changed.update(is_active=active, updated_at=timezone.now())


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
        Invalid: no name, an unknown scope, no scope at all, an expiry in the past, or too many keys.
    """
    chosen = sorted(set(scopes if scopes is not None else Scope.values))
    if not name.strip():
        text = _("Give the key a name, so that you recognise it later.")
        raise Invalid(text, fields={"name": text})
    if not chosen or not set(chosen) <= set(Scope.values):
        text = _("Choose what the key may do.")
        raise Invalid(text, fields={"scopes": text})
    if expires_at is not None and expires_at <= timezone.now():
        text = _("This expiry lies in the past. Choose a later time.")
        raise Invalid(text, fields={"expires_at": text})
    if ApiKey.objects.filter(user=user, revoked_at__isnull=True).count() >= MOST_KEYS:
        raise Invalid(
            _("You have %(n)d keys, which is the most. Revoke one of them first.") % {"n": MOST_KEYS},
            code="too_many_keys",
        )
    _forget_revoked_keys(user)
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


def _forget_revoked_keys(user: User) -> None:
    """Delete a person's revoked keys, save for the newest."""
    revoked = ApiKey.objects.filter(user=user, revoked_at__isnull=False).order_by("-id")
    ApiKey.objects.filter(pk__in=list(revoked.values_list("pk", flat=True)[MOST_REVOKED:])).delete()


def revoke_api_key(*, user: User, key_id: UUID) -> ApiKey:
    """End a key at once.

    Raises:
        NotFound: the person has no such key.
    """
    with transaction.atomic():
        key: ApiKey | None = ApiKey.objects.select_for_update().filter(user=user, pk=key_id).first()
        if key is None:
            raise NotFound(_("You have no such key."))
        if key.revoked_at is None:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at", "updated_at"])
    return key


def find_api_key(*, secret: str) -> ApiKey | None:
    """Return the usable key with this secret and note its use, or None."""
    key = _usable_key.first(digest=digest(secret))
    if key is None:
        return None
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        # Asked again in the statement, so that of many requests at once only one writes.
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
    return key


def digest(secret: str) -> str:
    """Return the SHA-256 of a key in hexadecimal. A key is 256 random bits, so a slow hash adds nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()
