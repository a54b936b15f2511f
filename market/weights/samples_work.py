"""What a worker does with the pictures that an owner shows a model on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common.postgresql.retry import persist
from market.models import MAX_ATTEMPTS, ChosenSample, Listing, Version, Weights
from market.sandbox import owner_leases, work_dirs
from market.weights.trials import fetch_model
from workers import engine
from workers.engine import ThumbnailResult
from workers.plugin import OperationError
from workers.thumbnail_sizes import SAMPLE_SIDE
from workers.trials import launch
from workers.trials.launch import TrialSample

_WEBP = "image/webp"


@dataclass(frozen=True)
class _Made:
    """What was made of a chosen picture; `one` is None where the weights came to nothing."""

    before: Stored
    after: Stored | None
    size: tuple[int, int]
    one: TrialSample | None


def show_chosen(listing_id: UUID) -> bool:
    """Make small pictures of what an owner chose, and run the newest weights over them.

    Return whether any was due, and something of the owner's was not just being done. Raises OSError where
    the storage does not give what it needs.
    """
    owner_id = waiting().filter(listing=listing_id).values_list("listing__owner", flat=True).first()
    if owner_id is None:
        return False
    with owner_leases.holding(owner_id) as lease:
        return lease is not None and _show(listing_id)


def waiting() -> QuerySet[ChosenSample]:
    """Return the pictures that a worker is still to look at."""
    return ChosenSample.objects.filter(is_due=True, attempts__lt=MAX_ATTEMPTS)


def _show(listing_id: UUID) -> bool:
    due = persist(lambda: _begin(listing_id))
    newest = Version.objects.filter(listing=listing_id).select_related("weights").order_by("-number").first()
    weights = newest.weights if newest else None
    if not due or weights is None:
        return False
    made = _make(weights, due)
    persist(lambda: _keep(listing_id, weights, due, made))
    return True


def _begin(listing_id: UUID) -> list[ChosenSample]:
    rows = waiting().filter(listing=listing_id)
    found = list(rows)
    rows.update(attempts=F("attempts") + 1, updated_at=Now())
    return found


def _make(weights: Weights, due: Sequence[ChosenSample]) -> dict[UUID, _Made]:
    """Return what can be shown of each picture; of one that cannot be read, nothing."""
    small = {row.pk: look for row in due if (look := _reduce(row)) is not None}
    shown = {one.number: one for one in _run(weights, [look.data for look in small.values()])}
    return {pk: _store(look, shown.get(number)) for number, (pk, look) in enumerate(small.items())}


def _reduce(row: ChosenSample) -> ThumbnailResult | None:
    """Return a picture as everybody may see it, with nothing that says where or by whom it was made."""
    data = blobs.read(row.before_id or row.source_id or "")
    try:
        small = engine.thumbnail(data, SAMPLE_SIDE)
    except OperationError:
        return None
    # Made once: each time anew, it would lose a little.
    return replace(small, data=data) if row.before_id else small


def _run(weights: Weights, pictures: Sequence[bytes]) -> tuple[TrialSample, ...]:
    if not pictures:
        return ()
    with work_dirs.open_scratch() as scratch:
        folder = fetch_model(weights, into=scratch)
        return launch.try_model(folder, given=pictures, scratch_in=scratch).shown


def _store(look: ThumbnailResult, one: TrialSample | None) -> _Made:
    after = one.after if one else None
    larger = after if after and after.width > look.width else look
    return _Made(
        before=blobs.store(look.data, _WEBP),
        after=blobs.store(after.data, _WEBP) if after else None,
        size=(larger.width, larger.height),
        one=one,
    )


@transaction.atomic
def _keep(
    listing_id: UUID, weights: Weights, due: Sequence[ChosenSample], made: Mapping[UUID, _Made]
) -> None:
    """Write down what came of it, unless other weights have come meanwhile."""
    # A release waits for this lock, and then makes all of them due again.
    listing = Listing.objects.select_for_update(no_key=True).filter(pk=listing_id).first()
    newest = listing.versions.order_by("-number").first() if listing else None
    if newest is None or newest.weights_id != weights.pk:
        return
    blobs.register(stored for one in made.values() for stored in (one.before, one.after) if stored)
    for row in ChosenSample.objects.filter(pk__in=[row.pk for row in due]):
        found = made.get(row.pk)
        # What cannot be read is not tried again; what the weights came to nothing with is.
        row.is_due = found is not None and found.one is None
        if found is not None:
            row.before_id, (row.width, row.height), row.source = found.before.sha256, found.size, None
        if found is not None and found.one is not None:
            row.weights, row.after_id = weights, found.after.sha256 if found.after else None
            row.seen = [seen.model_dump(exclude_none=True) for seen in found.one.seen]
        row.save()
