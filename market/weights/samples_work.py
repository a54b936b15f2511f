"""Worker side of chosen samples: reduce the images and run the newest weights on them."""

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
class _SampleResult:
    """Stored result of a chosen sample. `one` is None if the weights failed."""

    before: Stored
    after: Stored | None
    size: tuple[int, int]
    one: TrialSample | None


def update_samples(listing_id: UUID) -> bool:
    """Reduce the chosen images of a listing, and run its newest weights on them.

    Return False if none was due, or other work of the owner is in progress. Raises OSError if the storage
    fails.
    """
    owner_id = waiting().filter(listing=listing_id).values_list("listing__owner", flat=True).first()
    if owner_id is None:
        return False
    with owner_leases.acquire(owner_id) as lease:
        return lease is not None and _update(listing_id)


def waiting() -> QuerySet[ChosenSample]:
    """Return the samples that wait for a worker."""
    return ChosenSample.objects.filter(is_due=True, attempts__lt=MAX_ATTEMPTS)


def _update(listing_id: UUID) -> bool:
    due = persist(lambda: _begin(listing_id))
    newest = Version.objects.filter(listing=listing_id).select_related("weights").order_by("-number").first()
    weights = newest.weights if newest else None
    if not due or weights is None:
        return False
    results = _compute(weights, due)
    persist(lambda: _save(listing_id, weights, due, results))
    return True


def _begin(listing_id: UUID) -> list[ChosenSample]:
    rows = waiting().filter(listing=listing_id)
    due = list(rows)
    rows.update(attempts=F("attempts") + 1, updated_at=Now())
    return due


def _compute(weights: Weights, due: Sequence[ChosenSample]) -> dict[UUID, _SampleResult]:
    """Return the result of each sample. Unreadable images are left out."""
    small = {row.pk: look for row in due if (look := _reduce(row)) is not None}
    shown = {one.number: one for one in _run(weights, [look.data for look in small.values()])}
    return {pk: _store(look, shown.get(number)) for number, (pk, look) in enumerate(small.items())}


def _reduce(row: ChosenSample) -> ThumbnailResult | None:
    """Return a small copy without metadata, or None if the image is unreadable."""
    data = blobs.read(row.before_id or row.source_id or "")
    try:
        small = engine.thumbnail(data, SAMPLE_SIDE)
    except OperationError:
        return None
    # An existing copy is reused: encoding it again would lose quality.
    return replace(small, data=data) if row.before_id else small


def _run(weights: Weights, images: Sequence[bytes]) -> tuple[TrialSample, ...]:
    if not images:
        return ()
    with work_dirs.open_scratch() as scratch:
        folder = fetch_model(weights, into=scratch)
        return launch.try_model(folder, given=images, scratch_in=scratch).shown


def _store(look: ThumbnailResult, one: TrialSample | None) -> _SampleResult:
    after = one.after if one else None
    larger = after if after and after.width > look.width else look
    return _SampleResult(
        before=blobs.store(look.data, _WEBP),
        after=blobs.store(after.data, _WEBP) if after else None,
        size=(larger.width, larger.height),
        one=one,
    )


@transaction.atomic
def _save(
    listing_id: UUID, weights: Weights, due: Sequence[ChosenSample], results: Mapping[UUID, _SampleResult]
) -> None:
    """Save the results, unless the model got other weights in the meantime."""
    # A concurrent release waits for this lock, and then marks all samples as due again.
    listing = Listing.objects.select_for_update(no_key=True).filter(pk=listing_id).first()
    newest = listing.versions.order_by("-number").first() if listing else None
    if newest is None or newest.weights_id != weights.pk:
        return
    blobs.register(stored for one in results.values() for stored in (one.before, one.after) if stored)
    for row in ChosenSample.objects.filter(pk__in=[row.pk for row in due]):
        found = results.get(row.pk)
        # Unreadable images are not retried. Images on which the weights failed are.
        row.is_due = found is not None and found.one is None
        if found is not None:
            row.before_id, (row.width, row.height), row.source = found.before.sha256, found.size, None
        if found is not None and found.one is not None:
            row.weights, row.after_id = weights, found.after.sha256 if found.after else None
            row.seen = [seen.model_dump(exclude_none=True) for seen in found.one.seen]
        row.save()
