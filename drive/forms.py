"""Forms of the drive's pages."""

from django import forms
from django.utils.translation import gettext_lazy as _

from ipau.common.errors import DomainError


class NameForm(forms.Form):
    """The name of a folder or file."""

    name = forms.CharField(
        label=_("Name"),
        # The service counts bytes; this only keeps novels out.
        max_length=1000,
        strip=False,
    )

    def refuse(self, error: DomainError) -> None:
        """Put what the service says beside the field."""
        self.add_error("name", error.message)
