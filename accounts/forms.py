"""Forms of the settings pages and of the administration."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.forms import UserCreationForm

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
