"""Bytes that no row refers to are deleted once they are old enough."""

from django.core.files.storage import default_storage
from django.db import models, transaction
from django.utils import timezone

from drive.models import Blob
from drive.storage.blobs import DIGEST_LENGTH, GRACE

# How often the storage is swept.
SWEEP_SECONDS = 600.0


def sweep_storage(*, now: float) -> None:
    """Delete what nobody refers to; look for strays in that part of the storage whose turn it is."""
    adopt_strays(f"{int(now / SWEEP_SECONDS) % 256:02x}")
    sweep_orphans()


def orphans() -> models.QuerySet[Blob]:
    """Return blobs that no row refers to and that nobody has touched for a while."""
    rows = Blob.objects.filter(touched_at__lt=timezone.now() - GRACE)
    # The hidden ones too: most of those who refer to bytes have no name for the way back.
    for relation in Blob._meta.get_fields(include_hidden=True):
        if not isinstance(relation, models.ManyToOneRel) or relation.on_delete is models.CASCADE:
            continue
        referring = relation.related_model._default_manager.filter(
            **{relation.field.name: models.OuterRef("pk")}
        )
        rows = rows.filter(~models.Exists(referring))
    return rows


def adopt_strays(prefix: str) -> int:
    """Give a row to bytes that have none, so that `sweep_orphans` can deal with them; return how many.

    A worker that dies between writing bytes and recording them leaves such. Adopted bytes keep their age.

    Args:
        prefix: the first two hexadecimal digits: this looks at one part of the storage at a time.
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
    """Delete up to `limit` blobs that nobody refers to, and return how many."""
    swept = 0
    for sha256 in list(orphans().values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            blob = orphans().select_for_update(of=("self",), skip_locked=True).filter(pk=sha256).first()
            if blob is None:
                continue
            # The row first: where something refers to it after all, the database stops us here.
            blob.delete()
            default_storage.delete(Blob(sha256=sha256).path)
            swept += 1
    return swept


def _list(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []
