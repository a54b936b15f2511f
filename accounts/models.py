"""Tables of accounts. Rows of all other apps refer to their `owner`, a user.

- User: an account. Its user signs in by e-mail; others see the handle.
- ApiKey: a bearer key of a user (`user`) with scopes and an expiry. Only its SHA-256 is stored.
"""

import re
from typing import Any, ClassVar

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ipau.common.models import BaseModel

PLATFORM_HANDLE = "ipau"
# Names that could pass for the site itself, in an address or in a message.
# fmt: off
RESERVED_HANDLES = frozenset({
    PLATFORM_HANDLE, "about", "account", "accounts", "admin", "api", "apps", "billing", "cluster", "docs",
    "drive", "help", "home", "jobs", "login", "logout", "market", "media", "moderator", "new", "root",
    "security", "sell", "settings", "signup", "staff", "static", "support", "system", "v1",
})
# fmt: on
HANDLE = re.compile(r"\A[a-z0-9]+(?:-[a-z0-9]+)*\Z")


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create an account. Without a `handle`, one is derived from the e-mail address.

        Raises:
            ValueError: the e-mail address is empty.
        """
        if not email:
            raise ValueError("An e-mail address is required.")
        fields.setdefault("handle", self.free_handle(email))
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create an operator. The e-mail address counts as confirmed, because the command line is trusted."""
        user = self.create_user(email, password, is_staff=True, is_superuser=True, **fields)
        addresses = apps.get_model("account", "EmailAddress").objects.using(self._db)
        addresses.create(user=user, email=user.email, verified=True, primary=True)
        return user

    def free_handle(self, email: str) -> str:
        """Return a free handle, close to the first part of `email`."""
        stem = re.sub(r"[^a-z0-9]+", "-", email.split("@")[0].lower()).strip("-")[:30].strip("-") or "user"
        taken = set(self.filter(handle__startswith=stem).values_list("handle", flat=True)) | RESERVED_HANDLES
        number = 1
        handle = stem
        while handle in taken:
            number += 1
            handle = f"{stem}-{number}"
        return handle

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(BaseModel, AbstractBaseUser, PermissionsMixin):
    """An account. Its user signs in by e-mail; others see the handle."""

    email = models.EmailField(_("e-mail address"))
    handle = models.CharField(
        _("handle"),
        max_length=39,
        unique=True,
        validators=[RegexValidator(HANDLE, _("Use lowercase letters, digits and single hyphens."))],
        help_text=_("Shown to others. The first part of the address of your apps and models."),
    )
    name = models.CharField(_("name"), max_length=100, blank=True)
    # None: the default of the site.
    quota_bytes = models.BigIntegerField(_("drive quota in bytes"), null=True, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_unique")]

    def __str__(self) -> str:
        return self.handle

    def get_full_name(self) -> str:
        return self.name or self.handle

    def get_short_name(self) -> str:
        return self.name or self.handle


class Scope(models.TextChoices):
    """Permissions of an API key."""

    READ = "read", _("Read files, apps and jobs")
    WRITE = "write", _("Upload, change and delete files")
    RUN = "run", _("Run apps: previews, predictions, jobs")


# For endpoints that concern the whole account, such as webhooks.
FULL_ACCESS = (Scope.READ, Scope.WRITE, Scope.RUN)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> "ApiKeyQuerySet":
        return self.filter(
            models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=Now()),
            revoked_at__isnull=True,
            user__is_active=True,
        )


class ApiKey(BaseModel):
    """A bearer key. Only its SHA-256 is stored; the key itself is shown once."""

    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    name = models.CharField(_("name"), max_length=60)
    prefix = models.CharField(max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope.choices), verbose_name=_("scopes"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["user", "-created_at"], name="apikey_by_user")]

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
