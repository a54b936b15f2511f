"""Services of sample images: choose, set and list the samples of a model."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File, FileState
from ipau.common.errors import Invalid, NotFound
from ipau.common.ids import as_uuid
from market.models import MOST_CHOSEN, ChosenSample, Listing, Sample, Version
from market.weights import tasks
from market.weights.services import get_model

AnySample = Sample | ChosenSample


def list_chosen(*, owner: User, name: str) -> QuerySet[ChosenSample]:
    """Return the chosen samples of a model of `owner`, in order. Raises NotFound."""
    return ChosenSample.objects.filter(listing=get_model(owner=owner, name=name))


@transaction.atomic
def choose_samples(
    *, owner: User, name: str, kept: Iterable[object] = (), files: Iterable[object] = ()
) -> Listing:
    """Set the samples of a model: existing samples, then files of the drive. Delete all other samples.

    Without any, the model shows the sample images of the site.

    Args:
        kept: ids of existing samples.
        files: ids of image files of the drive.

    Raises:
        NotFound: the owner has no such model, sample or file.
        Invalid: too many images, one is not checked yet, or the model takes no input image.
    """
    listing = get_model(owner=owner, name=name)
    digests = [*_digests_of(listing, kept), *_digests_in(owner, files)]
    set_samples(listing=listing, digests=digests)
    return listing


@transaction.atomic
def set_samples(*, listing: Listing, digests: Iterable[str]) -> None:
    """Set the samples of a model to the images with these SHA-256 digests, in this order.

    Raises Invalid if there are too many, or the model takes no input image.
    """
    wanted = list(dict.fromkeys(digests))
    _check(listing, number=len(wanted))
    # Serialize concurrent changes.
    Listing.objects.select_for_update(no_key=True).get(pk=listing.pk)
    listing.chosen_samples.exclude(digest__in=wanted).delete()
    existing = {row.digest: row for row in listing.chosen_samples.all()}
    for position, digest in enumerate(wanted):
        if digest in existing:
            listing.chosen_samples.filter(digest=digest).update(position=position)
        else:
            listing.chosen_samples.create(position=position, source_id=digest, digest=digest)
    if wanted:
        transaction.on_commit(tasks.send_turn)


def shown_samples(version: Version) -> Sequence[AnySample]:
    """Return the samples of a version: those chosen by the owner, or those of its trial.

    A chosen sample with the result of other weights is returned without a result.
    """
    if version.weights is None:
        return []
    chosen = [one for one in version.listing.chosen_samples.all() if one.before_id]
    for one in chosen:
        if one.weights_id != version.weights_id:
            one.weights_id, one.after_id, one.seen = None, None, []
    return chosen or list(version.weights.samples.all())


def _digests_of(listing: Listing, ids: Iterable[object]) -> list[str]:
    """Return the digests of existing samples of a model."""
    wanted = {as_uuid(i) for i in ids}
    found = [row.digest for row in listing.chosen_samples.filter(pk__in=wanted)]
    if len(found) != len(wanted):
        raise NotFound(_("One of these samples no longer exists. Reload the page."))
    return found


def _digests_in(owner: User, ids: Iterable[object]) -> list[str]:
    """Return the digests of image files of the drive, in the order of `ids`."""
    wanted: list[UUID] = list(dict.fromkeys(as_uuid(i) for i in ids))
    found = {file.pk: file for file in File.objects.visible_to(owner).runnable().filter(pk__in=wanted)}
    if len(found) != len(wanted):
        raise NotFound(_("One of these images is not in your drive."))
    for file in found.values():
        if file.state != FileState.READY:
            text = _("“%(name)s” is still being checked. Choose it again in a moment.")
            raise Invalid(text % {"name": file.name}, code="not_ready")
    return [found[pk].blob_id for pk in wanted]


def _check(listing: Listing, *, number: int) -> None:
    text = ""
    if number > MOST_CHOSEN:
        text = _("A model can have at most %(most)d sample images. You chose %(n)d.") % {
            "most": MOST_CHOSEN,
            "n": number,
        }
    rows = Version.objects.filter(listing=listing).select_related("weights")
    newest = rows.order_by("-number").first()
    if number and newest and newest.weights and newest.weights.facts.get("layout") == "noise":
        text = _(
            "This model generates images from noise. It takes no input image, so it has no samples to choose."
        )
    if text:
        raise Invalid(text, code="samples")
