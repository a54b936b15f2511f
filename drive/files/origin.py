"""Origin of a file: the job that created it. The drive cannot import jobs, so they register a finder here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import User
from drive.models import File
from ipau.common.late_import import LateImport


@dataclass(frozen=True)
class Origin:
    """The job that created a file, its source image and parameters."""

    maker: str
    maker_url: str
    job_url: str
    made_at: datetime
    # Label and value of each parameter.
    parameters: Sequence[tuple[str, str]]
    # Source image, possibly in the trash; None if it was deleted.
    source: File | None
    source_name: str
    # Page with the detections of a model; empty if there are none.
    found_url: str = ""

    @property
    def is_source_live(self) -> bool:
        return self.source is not None and self.source.trashed_at is None


# Takes `owner` and `file`, and returns the file's origin.
find_origin: LateImport[..., Origin | None] = LateImport()


def origin_of(*, owner: User, file: File) -> Origin | None:
    """Return the origin of a file of `owner`; None if no job created it."""
    return find_origin(owner=owner, file=file) if find_origin else None
