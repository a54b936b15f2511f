"""Ways to fill a drive in tests."""

import io

from accounts.models import User
from drive.models import File, Folder
from drive.uploads import services as uploads_services
from tests.pictures import picture_bytes


def upload(
    owner: User,
    name: str = "cat.jpg",
    *,
    folder: Folder | None = None,
    data: bytes | None = None,
    seed: int = 0,
) -> File:
    """Put a picture into a drive the way the site does."""
    data = picture_bytes(seed=seed) if data is None else data
    return uploads_services.upload_file(
        owner=owner, folder=folder, name=name, content=io.BytesIO(data), size=len(data)
    )
