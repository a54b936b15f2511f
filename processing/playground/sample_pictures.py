"""Sample images: one for all apps, and those of the trials of a model."""

import hashlib
import io
from functools import cache
from pathlib import Path

from django.db.models import prefetch_related_objects

from accounts.models import User
from drive.models import Blob, File
from drive.storage import blobs
from drive.uploads import services
from ipau.common.ids import as_uuid
from market.listings import services as market
from market.models import Version
from market.weights.samples import AnySample, shown_samples

NAME = "sample.jpg"
# A page sends this for the sample of all apps.
COMMON = "1"
STATIC = f"processing/{NAME}"
_PATH = Path(__file__).parents[1] / "static" / STATIC


@cache
def data() -> bytes:
    """Return the bytes of the common sample, a JPEG."""
    return _PATH.read_bytes()


def of_version(version: Version) -> list[AnySample]:
    """Return the samples of a model that can be chosen as input; an empty list for apps."""
    if version.weights is None:
        return []
    prefetch_related_objects([version], "weights__samples", "listing__chosen_samples")
    return [sample for sample in shown_samples(version) if sample.before_id]


def get_picture(*, user: User | None, sample_id: str) -> Blob | None:
    """Return the input image of a model sample, or None for the common sample.

    Raises:
        NotFound: the sample does not exist, or `user` cannot see a model that shows it.
    """
    if sample_id in ("", COMMON):
        return None
    return market.get_sample_picture(user=user, sample_id=as_uuid(sample_id), which="before")


def add_to_drive(owner: User, sample_id: str = COMMON) -> File:
    """Return a sample as a file of the owner's drive; add it if missing. Raises as `get_picture`."""
    picture = get_picture(user=owner, sample_id=sample_id)
    content, name = (data(), NAME) if picture is None else (blobs.read(picture.sha256), "sample.webp")
    digest = hashlib.sha256(content).hexdigest()
    existing = File.objects.visible_to(owner).live().filter(blob=digest).first()
    if existing is not None:
        return existing
    return services.upload_file(
        owner=owner, folder=None, name=name, content=io.BytesIO(content), size=len(content)
    )
