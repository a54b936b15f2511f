"""Selected images of a page, read from its form fields."""

from typing import Any

from accounts.requests import SignedInRequest
from drive.files import services as drive
from drive.files.services import Selection
from ipau.common.errors import Invalid
from processing.playground import sample_pictures, session_selection


def chosen_pictures(request: SignedInRequest, sent: Any) -> Selection:
    """Return the files and folders to run on.

    Args:
        sent: fields of the page. `over` is «selection», «folder:<id>» or empty. If empty, `file` and `folder`
            have ids, and `sample` the id of a sample image.

    Raises:
        NotFound: a file or folder no longer exists.
        Invalid: nothing is selected.
    """
    over = sent.get("over", "")
    if over == "selection":
        return session_selection.recall(request.session, owner=request.user, key=sent.get("selection", ""))
    if over.startswith("folder:"):
        return drive.select(owner=request.user, folder_ids=[over.removeprefix("folder:")])
    chosen = session_selection.read(
        owner=request.user, files=sent.getlist("file"), folders=sent.getlist("folder")
    )
    if chosen is not None:
        return chosen
    if "sample" in sent:
        return Selection(folders=(), files=(sample_pictures.add_to_drive(request.user, sent["sample"]),))
    raise Invalid("No image is selected. Select or upload an image first.", code="no_files")
