"""How a file came about. The drive stands below what makes files, so who knows it registers here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import User
from drive.models import File
from ipau.common.late_import import LateImport


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


# Takes `owner` and `file`, and returns how the file was made.
find_origin: LateImport[..., Origin | None] = LateImport()


def origin_of(*, owner: User, file: File) -> Origin | None:
    """Return how a file of `owner` was made; None where nobody knows, as of an upload."""
    return find_origin(owner=owner, file=file) if find_origin else None
