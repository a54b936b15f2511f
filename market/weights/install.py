"""Putting a model on offer that is converted already, from a folder of the operator's own."""

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
    """Publish the converted model in a folder as `owner/name`; return its version.

    The same folder once more changes nothing but the words.

    Raises:
        Invalid: the folder does not hold a converted model.
        Conflict: the name is that of something else.
    """
    try:
        _, facts = verify(folder)
    except (BundleError, OSError) as error:
        raise Invalid(f"There is no converted model in “{folder.name}”. {error}", code="model") from error
    files = {of: blobs.store((folder / of).read_bytes(), kind) for of, kind in releases.TYPES.items()}
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
    """Show a model on pictures of the operator's own, JPEG. Raises as `choosing.show_on`."""
    stored = [blobs.store(path.read_bytes(), "image/jpeg") for path in pictures]
    with transaction.atomic():
        blobs.register(stored)
        samples.show_on(listing=listing, digests=[one.sha256 for one in stored])
