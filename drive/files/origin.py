"""How a file came about. The drive stands below what makes files, so who knows it registers here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.module_loading import import_string

from accounts.models import User
from drive.models import File


@dataclass(frozen=True)
class Origin:
    """What made a file, from what, and how."""

    maker: str
    maker_url: str
    job_url: str
    made_at: datetime
    # What was set, as label and value.
    parameters: Sequence[tuple[str, str]]
    # What it was made from; None where that is gone. It may be in the trash.
    source: File | None
    source_name: str
    # Where what a model found in it is looked at more closely; empty where nothing was.
    found_url: str = ""

    @property
    def is_source_live(self) -> bool:
        return self.source is not None and self.source.trashed_at is None


class _Registered:
    name = ""


def register(name: str) -> None:
    """Have the function of this dotted name say how a file was made: it takes `owner` and `file`.

    An app calls this in `ready`. The function is imported when it is first asked.
    """
    _Registered.name = name


def origin_of(*, owner: User, file: File) -> Origin | None:
    """Return how a file of `owner` was made; None where nobody knows, as of an upload."""
    if not _Registered.name:
        return None
    find: Callable[..., Origin | None] = import_string(_Registered.name)
    return find(owner=owner, file=file)
