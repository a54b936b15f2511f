"""The pictures that an owner shows a model on."""

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
    """Return the pictures that a model of the owner's is shown on, in their order. Raises NotFound."""
    return ChosenSample.objects.filter(listing=get_model(owner=owner, name=name))


@transaction.atomic
def choose_samples(
    *, owner: User, name: str, kept: Iterable[object] = (), files: Iterable[object] = ()
) -> Listing:
    """Show a model on these pictures: of those that it has those with these ids, then files of the drive.

    All others go. With none, it is shown on the pictures that every model is tried on.

    Raises:
        NotFound: the person has no such model, or one of the pictures is not there.
        Invalid: too many are chosen, one has not been checked yet, or the model looks at no picture.
    """
    listing = get_model(owner=owner, name=name)
    digests = [*_digests_of(listing, kept), *_digests_in(owner, files)]
    show_on(listing=listing, digests=digests)
    return listing


@transaction.atomic
def show_on(*, listing: Listing, digests: Iterable[str]) -> None:
    """Show a model on the pictures with these bytes, in this order, and on no others.

    Raises Invalid where they are too many, or the model looks at no picture.
    """
    wanted = list(dict.fromkeys(digests))
    _check(listing, number=len(wanted))
    # One change of them at a time.
    Listing.objects.select_for_update(no_key=True).get(pk=listing.pk)
    listing.chosen_samples.exclude(digest__in=wanted).delete()
    there = {row.digest: row for row in listing.chosen_samples.all()}
    for position, digest in enumerate(wanted):
        if digest in there:
            listing.chosen_samples.filter(digest=digest).update(position=position)
        else:
            listing.chosen_samples.create(position=position, source_id=digest, digest=digest)
    if wanted:
        transaction.on_commit(tasks.send_turn)


def shown_samples(version: Version) -> Sequence[AnySample]:
    """Return the samples on which a version is shown: those of the owner's choosing, or what it was tried on.

    Of a chosen one that other weights were run on last, it is only told what it looks like.
    """
    if version.weights is None:
        return []
    chosen = [one for one in version.listing.chosen_samples.all() if one.before_id]
    for one in chosen:
        if one.weights_id != version.weights_id:
            one.weights_id, one.after_id, one.seen = None, None, []
    return chosen or list(version.weights.samples.all())


def _digests_of(listing: Listing, ids: Iterable[object]) -> list[str]:
    """Return the bytes of samples that a model has."""
    wanted = {as_uuid(i) for i in ids}
    found = [row.digest for row in listing.chosen_samples.filter(pk__in=wanted)]
    if len(found) != len(wanted):
        raise NotFound(_("One of these samples is no longer there."))
    return found


def _digests_in(owner: User, ids: Iterable[object]) -> list[str]:
    """Return the bytes of files of the drive, in the order in which they were chosen."""
    wanted: list[UUID] = list(dict.fromkeys(as_uuid(i) for i in ids))
    found = {file.pk: file for file in File.objects.visible_to(owner).runnable().filter(pk__in=wanted)}
    if len(found) != len(wanted):
        raise NotFound(_("One of these pictures is not in your drive."))
    for file in found.values():
        if file.state != FileState.READY:
            text = _("“%(name)s” is still being checked. Choose it again in a moment.")
            raise Invalid(text % {"name": file.name}, code="not_ready")
    return [found[pk].blob_id for pk in wanted]


def _check(listing: Listing, *, number: int) -> None:
    text = ""
    if number > MOST_CHOSEN:
        text = _("A model is shown on %(most)d pictures at most, and these are %(n)d.") % {
            "most": MOST_CHOSEN,
            "n": number,
        }
    rows = Version.objects.filter(listing=listing).select_related("weights")
    newest = rows.order_by("-number").first()
    if number and newest and newest.weights and newest.weights.facts.get("layout") == "noise":
        text = _("This model draws from noise: it looks at no picture.")
    if text:
        raise Invalid(text, code="samples")
