"""What an address asks of a search, to be answered by a listing and followed by the viewer."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.requests import SignedInRequest
from drive.files import search, services
from drive.files.search import Wanted, When
from drive.models import FileKind, Folder

# The rooms whose listings are searches.
ROOMS = frozenset({"search", "starred"})
_CARRIED = frozenset({"q", "kind", "when", "first", "last", "in", "sort"})
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


@dataclass(frozen=True)
class Search:
    """A search as an address tells it: `query` is that part of the address, to be carried on ("q=cat&")."""

    room: str
    form: FindForm
    wanted: Wanted
    within: Folder | None
    query: str

    @property
    def opened_from(self) -> str:
        """What a file's address says, so that its page knows the files before and after it."""
        return f"?{urlencode({'from': self.room})}&{self.query}".rstrip("&")


def read_search(request: SignedInRequest, room: str) -> Search:
    """Read what an address looks for. Raises NotFound for a folder that is not there."""
    key = request.GET.get("in", "")
    within = services.get_folder(owner=request.user, folder_id=key) if key else None
    form = FindForm(request.GET)
    # What cannot be read asks for nothing, and is said beside its field.
    form.is_valid()
    sent: dict[str, Any] = form.cleaned_data
    wanted = Wanted(
        text=sent.get("q", "").strip(),
        kind=sent.get("kind", ""),
        when=sent.get("when", ""),
        first=sent.get("first"),
        last=sent.get("last"),
        within=search.below(within) if within else None,
        starred=room == "starred",
    )
    return Search(room, form, wanted, within, _query(request))


def _query(request: SignedInRequest) -> str:
    kept = [(name, value) for name, value in request.GET.items() if value and name in _CARRIED]
    return urlencode(kept) + "&" if kept else ""
