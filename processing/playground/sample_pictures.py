"""Sample pictures, for who has none yet: one for all apps, and those that a model was tried on."""

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
# What a page sends for the one that all apps have.
COMMON = "1"
STATIC = f"processing/{NAME}"
_PATH = Path(__file__).parents[1] / "static" / STATIC


@cache
def data() -> bytes:
    """Return the sample's bytes: a JPEG."""
    return _PATH.read_bytes()


def of_version(version: Version) -> list[AnySample]:
    """Return the samples of a model whose pictures can be chosen to try it on; none of an app."""
    if version.weights is None:
        return []
    prefetch_related_objects([version], "weights__samples", "listing__chosen_samples")
    return [sample for sample in shown_samples(version) if sample.before_id]


def get_picture(*, user: User | None, sample_id: str) -> Blob | None:
    """Return the picture of a model's sample; None for the one that all apps have.

    Raises:
        NotFound: there is none, or no model that `user` may see shows it.
    """
    if sample_id in ("", COMMON):
        return None
    return market.get_sample_picture(user=user, sample_id=as_uuid(sample_id), which="before")


def add_to_drive(owner: User, sample_id: str = COMMON) -> File:
    """Return a sample in the owner's drive, putting it there if it is not. Raises as `get_picture`."""
    picture = get_picture(user=owner, sample_id=sample_id)
    content, name = (data(), NAME) if picture is None else (blobs.read(picture.sha256), "sample.webp")
    digest = hashlib.sha256(content).hexdigest()
    found = File.objects.visible_to(owner).live().filter(blob=digest).first()
    if found is not None:
        return found
    return services.upload_file(
        owner=owner, folder=None, name=name, content=io.BytesIO(content), size=len(content)
    )
