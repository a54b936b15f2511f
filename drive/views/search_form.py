"""The form of a search."""

from django import forms
from django.utils.translation import gettext_lazy as _

from drive.finding import When
from drive.models import FileKind

KINDS = [("", _("Any type")), *FileKind.choices]


class FindForm(forms.Form):
    """What to look for, as an address carries it."""

    q = forms.CharField(label=_("Name contains"), required=False, max_length=255)
    kind = forms.ChoiceField(label=_("Type"), required=False, choices=KINDS)
    when = forms.ChoiceField(label=_("Added"), required=False, choices=[("", _("Any time")), *When.choices])
    first = forms.DateField(
        label=_("From"), required=False, widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d")
    )
    last = forms.DateField(
        label=_("Until"), required=False, widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d")
    )

    def clean(self) -> dict[str, object]:
        """Refuse days that are the wrong way round."""
        sent = super().clean() or {}
        first, last = sent.get("first"), sent.get("last")
        if first and last and first > last:
            self.add_error("last", _("This day is before the first one."))
        return sent
