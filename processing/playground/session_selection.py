"""What somebody selected in the drive, on its way to an app: kept in the session under a short id.

A few hundred ids are too long for an address.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from accounts.models import User
from drive.files import services as drive
from drive.files.services import Selection
from ipau.common.errors import NotFound
from processing.services import earlier_pictures

# Begins the key of a selection that is not kept here: the pictures of an earlier job.
OF_JOB = "job:"
_NAME = "selections"
_KEPT = 8


def keep(session: SessionBase, chosen: Selection) -> str:
    """Remember a selection and return its id. The oldest are forgotten."""
    kept: dict[str, Any] = dict(session.get(_NAME, {}))
    key = uuid.uuid4().hex[:12]
    kept[key] = {
        "files": [str(file.pk) for file in chosen.files],
        "folders": [str(folder.pk) for folder in chosen.folders],
    }
    session[_NAME] = dict(list(kept.items())[-_KEPT:])
    return key


def recall(session: SessionBase, *, owner: User, key: str) -> Selection:
    """Return a selection that was kept, or for «job:<id>» what is left of that job's pictures.

    Raises:
        NotFound: it was forgotten, or some of it is gone from the drive.
    """
    if key.startswith(OF_JOB):
        return earlier_pictures(owner=owner, job_id=key.removeprefix(OF_JOB)).selection
    found = session.get(_NAME, {}).get(key)
    if found is None:
        raise NotFound("This selection is no longer there. Choose the pictures again in the drive.")
    return drive.select(owner=owner, folder_ids=found["folders"], file_ids=found["files"])


def read(*, owner: User, files: Iterable[str], folders: Iterable[str]) -> Selection | None:
    """Return the selection that ids of a page or an address name; None where there are none.

    Raises:
        NotFound: one of them is not the owner's, or no longer there.
    """
    file_ids, folder_ids = [i for i in files if i], [i for i in folders if i]
    if not file_ids and not folder_ids:
        return None
    return drive.select(owner=owner, folder_ids=folder_ids, file_ids=file_ids)
