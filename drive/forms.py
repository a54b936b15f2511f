"""Forms of the drive's pages."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from drive.shares.services import MOST_LABEL, in_days
from ipau.common.errors import DomainError

LIFETIMES = (
    ("1", _("After a day")),
    ("7", _("After a week")),
    ("30", _("After 30 days")),
    ("90", _("After 90 days")),
    ("", _("Never")),
)
KEEP = ("keep", _("No change"))


class NameForm(forms.Form):
    """The name of a folder or file."""

    name = forms.CharField(
        label=_("Name"),
        # The service checks the exact limit in bytes.
        max_length=1000,
        strip=False,
    )

    def refuse(self, error: DomainError) -> None:
        """Show an error of the service at the field."""
        self.add_error("name", error.message)


class ShareForm(forms.Form):
    """Settings of a new link."""

    lifetime = forms.ChoiceField(label=_("Expires"), choices=LIFETIMES, initial="30", required=False)
    password = forms.CharField(
        label=_("Password"),
        required=False,
        max_length=200,
        strip=False,
        help_text=_("Leave empty to let anyone with the link open it."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    can_download = forms.BooleanField(
        label=_("Visitors may download"),
        required=False,
        initial=True,
        help_text=_(
            "If off, visitors see images with up to 1024 pixels a side, play videos and read texts. They get "
            "no original images, weights or archives. Videos and texts that they can open can also be saved."
        ),
    )
    label = forms.CharField(
        label=_("Label"),
        required=False,
        max_length=MOST_LABEL,
        help_text=_("A name for your own use. Visitors don’t see it."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def expires_at(self) -> datetime | None:
        """Return the expiry of the link; None: never."""
        chosen = self.cleaned_data["lifetime"]
        return in_days(int(chosen)) if chosen else None

    def terms(self) -> dict[str, Any]:
        """Return the settings as arguments of `shares.services.create_share`."""
        return {
            "expires_at": self.expires_at(),
            "password": self.cleaned_data["password"],
            "can_download": self.cleaned_data["can_download"],
            "label": self.cleaned_data["label"],
        }


class ShareChangeForm(ShareForm):
    """New settings of a link."""

    lifetime = forms.ChoiceField(label=_("Expires"), choices=(KEEP, *LIFETIMES), required=False)
    remove_password = forms.BooleanField(label=_("Remove the password"), required=False)

    def __init__(self, *args: Any, has_password: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if has_password:
            self.fields["password"].help_text = _("Leave empty to keep the current password.")
        else:
            del self.fields["remove_password"]

    def changes(self) -> dict[str, Any]:
        """Return the changes as arguments of `shares.services.change_share`."""
        found: dict[str, Any] = {name: self.cleaned_data[name] for name in ("can_download", "label")}
        if self.cleaned_data["lifetime"] != KEEP[0]:
            found["expires_at"] = self.expires_at()
        if self.cleaned_data["password"]:
            found["password"] = self.cleaned_data["password"]
        elif self.cleaned_data.get("remove_password"):
            found["password"] = ""
        return found


class PasswordForm(forms.Form):
    """The password of a link."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
