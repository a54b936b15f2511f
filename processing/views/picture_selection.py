"""Which pictures a page is about: those that its fields name."""

from typing import Any

from accounts.requests import SignedInRequest
from drive.files import services as drive
from drive.files.services import Selection
from ipau.common.errors import Invalid
from processing.playground import sample_pictures, session_selection


def chosen_pictures(request: SignedInRequest, sent: Any) -> Selection:
    """Return what to run over.

    Args:
        sent: the page's fields: `over` is «selection», «folder:<id>» or empty; then `file` and `folder` name
            the pictures, and `sample` a sample picture.

    Raises:
        NotFound: some of it is no longer there.
        Invalid: nothing was chosen.
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
    raise Invalid("Choose a picture first, or upload one.", code="no_files")
