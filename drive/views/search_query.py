"""Search form and query string, shared by the search page and the viewer."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.requests import SignedInRequest
from drive.files import search, services
from drive.files.search import Filters, When
from drive.models import FileKind, Folder

# Pages with listings from a search.
SECTIONS = frozenset({"search", "starred"})
_CARRIED = frozenset({"q", "kind", "when", "first", "last", "in", "sort"})
KINDS = [("", _("Any type")), *FileKind.choices]


class FindForm(forms.Form):
    """Search filters in a query string."""

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
        """Check that the first day is not after the last."""
        sent = super().clean() or {}
        first, last = sent.get("first"), sent.get("last")
        if first and last and first > last:
            self.add_error("last", _("The end date is before the start date."))
        return sent


@dataclass(frozen=True)
class Search:
    """A parsed search. `query` is its query string for links ("q=cat&")."""

    section: str
    form: FindForm
    filters: Filters
    within: Folder | None
    query: str

    @property
    def opened_from(self) -> str:
        """Query string of a file's URL, from which its page finds the previous and next file."""
        return f"?{urlencode({'from': self.section})}&{self.query}".rstrip("&")


def read_search(request: SignedInRequest, section: str) -> Search:
    """Parse the search of a request. Raises NotFound if the folder does not exist."""
    key = request.GET.get("in", "")
    within = services.get_folder(owner=request.user, folder_id=key) if key else None
    form = FindForm(request.GET)
    # Invalid fields are ignored, and their errors shown at the field.
    form.is_valid()
    sent: dict[str, Any] = form.cleaned_data
    filters = Filters(
        text=sent.get("q", "").strip(),
        kind=sent.get("kind", ""),
        when=sent.get("when", ""),
        first=sent.get("first"),
        last=sent.get("last"),
        within=search.below(within) if within else None,
        starred=section == "starred",
    )
    return Search(section, form, filters, within, _query(request))


def _query(request: SignedInRequest) -> str:
    pairs = [(name, value) for name, value in request.GET.items() if value and name in _CARRIED]
    return urlencode(pairs) + "&" if pairs else ""
