"""Files that are sent into the bucket as browsers send them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.request import Request, urlopen

from django.utils import timezone

from accounts.models import User
from drive.files.paths import clean_path
from drive.models import OnConflict, Upload
from drive.uploads import direct, s3_multipart, tasks

MB = 2**20


def begin(owner: User, data: bytes, name: str = "sea.png", **how: Any) -> Upload:
    given = {"folder": None, "on_conflict": OnConflict.KEEP_BOTH, "key": name, "length": len(data), **how}
    return direct.begin_direct(owner=owner, place=clean_path(name), **given)


def put_to(url: str, data: bytes) -> None:
    """Send bytes to an address, as a browser does."""
    request = Request(url, data=data, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    with urlopen(request) as answer:
        assert answer.status == 200


def put(begun: Upload, data: bytes, *numbers: int) -> None:
    """Send parts as a browser does: to signed addresses."""
    wanted = numbers or tuple(s3_multipart.sizes_of(begun))
    for part in direct.sign_parts(upload=begun, numbers=wanted):
        start = (part.number - 1) * begun.part_size
        put_to(part.url, data[start : start + part.size])


def send(owner: User, data: bytes, name: str = "sea.png", **how: Any) -> Upload:
    """Send all of a file, and say so."""
    begun = begin(owner, data, name, **how)
    put(begun, data)
    return direct.finish_upload(upload=begun)


def check(sent: Upload) -> Upload:
    tasks.check_upload(str(sent.pk))
    sent.refresh_from_db()
    return sent


def age(days: float, **rows: Any) -> None:
    Upload.objects.filter(**rows).update(expires_at=timezone.now() - timedelta(days=days))
