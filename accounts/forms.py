"""Forms of the settings pages and of the admin."""

import re
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.forms import UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import Scope, User
from ipau.common.errors import DomainError

LIFETIMES = (
    ("", _("Never")),
    ("7", _("In 7 days")),
    ("30", _("In 30 days")),
    ("90", _("In 90 days")),
    ("365", _("In one year")),
)


def add_domain_error(form: forms.BaseForm, error: DomainError) -> None:
    """Add a domain error to the fields that it names, or to the whole form if it names none of them."""
    known = {name: text for name, text in error.fields.items() if name in form.fields}
    for name, text in known.items():
        form.add_error(name, text)
    if not known:
        form.add_error(None, error.message)


class ProfileForm(forms.Form):
    """Public profile: name and handle."""

    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        required=False,
        help_text=_("Shown instead of your handle. Optional."),
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    handle = forms.CharField(
        label=_("Handle"),
        max_length=39,
        help_text=_(
            "The first part of the address of your apps and models. Changing it breaks existing links."
        ),
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class ApiKeyForm(forms.Form):
    """A new API key."""

    name = forms.CharField(
        label=_("Name"),
        max_length=60,
        help_text=_("For example, the program that uses it."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("Permissions"),
        choices=Scope.choices,
        initial=Scope.values,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one permission.")},
    )
    lifetime = forms.ChoiceField(label=_("Expires"), choices=LIFETIMES, required=False)

    def expires_at(self) -> datetime | None:
        """Return the expiry of a key created now; None if it does not expire."""
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class SizeField(forms.CharField):
    """A size in bytes, entered as "500 MB", "20 GB" or "1.5 TB". Empty: None."""

    _UNITS: ClassVar[dict[str, int]] = {"MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
    _SIZE = re.compile(r"(\d{1,9}(?:[.,]\d{1,3})?)\s*(MB|GB|TB)", re.IGNORECASE)

    def prepare_value(self, value: Any) -> Any:
        """Return a number of bytes as text, in the largest unit that it reaches."""
        if not isinstance(value, int):
            return value
        unit = next((u for u in ("TB", "GB") if value >= self._UNITS[u]), "MB")
        return f"{value / self._UNITS[unit]:.3f}".rstrip("0").rstrip(".") + f" {unit}"

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip()
        if not text:
            return None
        match = self._SIZE.fullmatch(text)
        if match is None:
            raise ValidationError(gettext("Enter a size such as 500 MB or 20 GB."))
        return round(float(match[1].replace(",", ".")) * self._UNITS[match[2].upper()])

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare the texts, because the text of the initial value may be rounded."""
        return str(self.prepare_value(initial) or "") != str(data or "").strip()


class UserAdminForm(UserChangeForm):
    """An account in the admin."""

    quota_bytes = SizeField(
        label=_("Drive quota"),
        required=False,
        help_text=_("For example, 500 MB or 20 GB. Leave blank for the site default."),
        widget=UnfoldAdminTextInputWidget,
    )


class UserCreateForm(UserCreationForm):
    """A new account in the admin. Without a handle, one is derived from the e-mail address."""

    class Meta:
        model = User
        fields = ("email", "handle")
        field_classes: dict[str, Any] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["handle"].required = False

    def clean_email(self) -> str:
        """Return the address in lowercase. Reject one in use, ignoring case."""
        email = str(self.cleaned_data["email"]).lower()
        if User.objects.filter(email__iexact=email).exists():
            raise ValidationError(gettext("This e-mail address is already in use."))
        return email

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not cleaned.get("handle") and cleaned.get("email"):
            cleaned["handle"] = User.objects.free_handle(cleaned["email"])
        return cleaned
