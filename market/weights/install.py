"""Install converted models from a local folder, for the operator and the demo."""

from collections.abc import Iterable
from pathlib import Path

from django.db import transaction

from accounts.models import User
from drive.storage import blobs
from ipau.common.errors import Invalid
from market.models import Listing, Version
from market.weights import releases, samples
from market.weights.releases import Release
from workers.bundle import BundleError, verify


def install_model(
    *, owner: User, folder: Path, name: str, title: str, summary: str, description: str
) -> Version:
    """Publish the converted model in a folder as `owner/name`, and return its version.

    Installing the same folder again only updates the texts.

    Raises:
        Invalid: the folder contains no converted model.
        Conflict: the name is taken by an app or pipeline.
    """
    try:
        _, facts = verify(folder)
    except (BundleError, OSError) as error:
        raise Invalid(
            f"The folder “{folder.name}” contains no converted model. {error}", code="model"
        ) from error
    files = {path: blobs.store((folder / path).read_bytes(), kind) for path, kind in releases.TYPES.items()}
    wanted = Release(owner_id=owner.pk, name=name, title=title, publish=True)
    with transaction.atomic():
        weights = releases.keep_weights(
            facts=facts.model_dump(mode="json", exclude={"architecture"}, exclude_none=True),
            files=files,
            source_sha256="",
        )
        version = releases.release_model(wanted=wanted, weights=weights)
        listing = version.listing
        listing.title, listing.summary, listing.description = title, summary, description
        listing.save(update_fields=["title", "summary", "description", "updated_at"])
    return version


def show_model(*, listing: Listing, pictures: Iterable[Path]) -> None:
    """Set the sample images of a model to these JPEG files. Raises as `samples.set_samples`."""
    stored = [blobs.store(path.read_bytes(), "image/jpeg") for path in pictures]
    with transaction.atomic():
        blobs.register(stored)
        samples.set_samples(listing=listing, digests=[one.sha256 for one in stored])
