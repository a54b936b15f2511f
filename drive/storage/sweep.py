"""Sweep of the storage: delete old blobs without a reference."""

from django.core.files.storage import default_storage
from django.db import models, transaction
from django.utils import timezone

from drive.models import Blob
from drive.storage.blobs import DIGEST_LENGTH, GRACE

# How often the storage is swept.
SWEEP_SECONDS = 600.0


def sweep_storage(*, now: float) -> None:
    """Delete unreferenced blobs, and adopt stray bytes in one of 256 parts of the storage."""
    adopt_strays(f"{int(now / SWEEP_SECONDS) % 256:02x}")
    sweep_orphans()


def orphans() -> models.QuerySet[Blob]:
    """Return blobs without a reference that were not touched for `GRACE`."""
    rows = Blob.objects.filter(touched_at__lt=timezone.now() - GRACE)
    # Hidden relations too: most foreign keys to blobs have no reverse name.
    for relation in Blob._meta.get_fields(include_hidden=True):
        if not isinstance(relation, models.ManyToOneRel) or relation.on_delete is models.CASCADE:
            continue
        referring = relation.related_model._default_manager.filter(
            **{relation.field.name: models.OuterRef("pk")}
        )
        rows = rows.filter(~models.Exists(referring))
    return rows


def adopt_strays(prefix: str) -> int:
    """Create rows for stored bytes without one, so that `sweep_orphans` deletes them; return their number.

    A worker that crashes between writing and recording bytes leaves strays. Adopted bytes keep their age.

    Args:
        prefix: first two hexadecimal digits of the digests, which select one part of the storage.
    """
    found: dict[str, str] = {}
    for folder in _list(prefix)[0]:
        for name in _list(f"{prefix}/{folder}")[1]:
            found[name] = f"{prefix}/{folder}/{name}"
    known = set(Blob.objects.filter(pk__in=found).values_list("pk", flat=True))
    strays = []
    for name in sorted(found.keys() - known):
        written = default_storage.get_modified_time(found[name])
        if len(name) == DIGEST_LENGTH and written < timezone.now() - GRACE:
            size = default_storage.size(found[name])
            strays.append(
                Blob(sha256=name, size=size, content_type="application/octet-stream", touched_at=written)
            )
    return len(Blob.objects.bulk_create(strays, ignore_conflicts=True))


def sweep_orphans(*, limit: int = 500) -> int:
    """Delete up to `limit` unreferenced blobs; return the number deleted."""
    swept = 0
    for sha256 in list(orphans().values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            blob = orphans().select_for_update(of=("self",), skip_locked=True).filter(pk=sha256).first()
            if blob is None:
                continue
            # The row first: if a new reference exists, the database raises here.
            blob.delete()
            default_storage.delete(Blob(sha256=sha256).path)
            swept += 1
    return swept


def _list(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []
