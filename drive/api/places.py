"""Where something lies, as a request says it."""

from accounts.models import User
from drive import services
from drive.models import Folder
from drive.serializers.drives import TOP


def folder_or_top(owner: User, told: object) -> Folder | None:
    """Return the folder of this id; None for `top` or nothing. Raises NotFound."""
    return None if told in (TOP, None) else services.get_folder(owner=owner, folder_id=told)
