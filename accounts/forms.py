"""Forms of the settings pages and of the administration."""

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
    """Put a domain error beside the fields that it names, or above the form when it names none of it."""
    known = {name: text for name, text in error.fields.items() if name in form.fields}
    for name, text in known.items():
        form.add_error(name, text)
    if not known:
        form.add_error(None, error.message)


class ProfileForm(forms.Form):
    """What others see of a person."""

    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        required=False,
        help_text=_("Shown in place of your handle. May be empty."),
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    handle = forms.CharField(
        label=_("Handle"),
        max_length=39,
        help_text=_(
            "The first part of the address of what you publish. Changing it breaks links that others keep."
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
        help_text=_("For example the program that will use it."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("May"),
        choices=Scope.choices,
        initial=Scope.values,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose what the key may do.")},
    )
    lifetime = forms.ChoiceField(label=_("Expires"), choices=LIFETIMES, required=False)

    def expires_at(self) -> datetime | None:
        """Return when the key shall end, counted from now; None when it shall not."""
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class SizeField(forms.CharField):
    """Bytes, written as people write them: "500 MB", "20 GB", "1.5 TB". Empty: None."""

    _UNITS: ClassVar[dict[str, int]] = {"MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
    _WRITTEN = re.compile(r"(\d{1,9}(?:[.,]\d{1,3})?)\s*(MB|GB|TB)", re.IGNORECASE)

    def prepare_value(self, value: Any) -> Any:
        """Write a number of bytes in the largest unit in which it is a short number."""
        if not isinstance(value, int):
            return value
        unit = next((u for u in ("TB", "GB") if value >= self._UNITS[u]), "MB")
        return f"{value / self._UNITS[unit]:.3f}".rstrip("0").rstrip(".") + f" {unit}"

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip()
        if not text:
            return None
        match = self._WRITTEN.fullmatch(text)
        if match is None:
            raise ValidationError(gettext("Write a size such as 500 MB or 20 GB."))
        return round(float(match[1].replace(",", ".")) * self._UNITS[match[2].upper()])

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare what is written, which may be rounded."""
        return str(self.prepare_value(initial) or "") != str(data or "").strip()


class UserAdminForm(UserChangeForm):
    """A person as operators see them."""

    quota_bytes = SizeField(
        label=_("Drive quota"),
        required=False,
        help_text=_("For example 500 MB or 20 GB. Empty: as much as the site gives everybody."),
        widget=UnfoldAdminTextInputWidget,
    )


class UserCreateForm(UserCreationForm):
    """A new person made by an administrator, known by e-mail; the handle follows from it when left empty."""

    class Meta:
        model = User
        fields = ("email", "handle")
        field_classes: dict[str, Any] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["handle"].required = False

    def clean_email(self) -> str:
        """Return the address in small letters; refuse one that somebody has in whatever case."""
        email = str(self.cleaned_data["email"]).lower()
        if User.objects.filter(email__iexact=email).exists():
            raise ValidationError(gettext("Somebody has this e-mail address already."))
        return email

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not cleaned.get("handle") and cleaned.get("email"):
            cleaned["handle"] = User.objects.free_handle(cleaned["email"])
        return cleaned
