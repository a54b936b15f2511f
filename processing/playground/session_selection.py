"""Selections of drive files for an app, stored in the session under a short id.

An address cannot hold a few hundred file ids.
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

# Prefix of keys that are not in the session: the images of an earlier job.
OF_JOB = "job:"
_NAME = "selections"
_MOST = 8


def keep(session: SessionBase, chosen: Selection) -> str:
    """Store a selection and return its id. The oldest selections are deleted."""
    selections: dict[str, Any] = dict(session.get(_NAME, {}))
    key = uuid.uuid4().hex[:12]
    selections[key] = {
        "files": [str(file.pk) for file in chosen.files],
        "folders": [str(folder.pk) for folder in chosen.folders],
    }
    session[_NAME] = dict(list(selections.items())[-_MOST:])
    return key


def recall(session: SessionBase, *, owner: User, key: str) -> Selection:
    """Return a stored selection, or for «job:<id>» the remaining images of that job.

    Raises:
        NotFound: the selection was deleted, or a file of it is no longer in the drive.
    """
    if key.startswith(OF_JOB):
        return earlier_pictures(owner=owner, job_id=key.removeprefix(OF_JOB)).selection
    stored = session.get(_NAME, {}).get(key)
    if stored is None:
        raise NotFound("This selection has expired. Select the images in your drive again.")
    return drive.select(owner=owner, folder_ids=stored["folders"], file_ids=stored["files"])


def read(*, owner: User, files: Iterable[str], folders: Iterable[str]) -> Selection | None:
    """Return the selection with these ids, or None if there are no ids.

    Raises:
        NotFound: the owner has no file or folder with one of the ids.
    """
    file_ids, folder_ids = [i for i in files if i], [i for i in folders if i]
    if not file_ids and not folder_ids:
        return None
    return drive.select(owner=owner, folder_ids=folder_ids, file_ids=file_ids)
