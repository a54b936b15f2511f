"""Check of direct uploads by workers. Nothing that the browser sent is trusted.

The worker assembles the parts, reads the object, checks its type and length, copies it to the blob's name in
the bucket, and then creates the file. Every step is idempotent.
"""

import hashlib
import logging
import random
import time
from datetime import timedelta
from typing import BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from drive.files import quota
from drive.formats.detect import sniff
from drive.models import Upload
from drive.storage import blobs
from drive.storage.blobs import Stored
from drive.uploads import s3_multipart
from drive.uploads.create_file import create_file
from ipau.common import leases
from ipau.common.errors import DomainError, Invalid

logger = logging.getLogger(__name__)

CHUNK = 1024 * 1024
# The worker renews its lease this often. If it dies, the lease expires and another worker takes over.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0
MAX_ATTEMPTS = 3
# Key of the PostgreSQL advisory lock for claims.
_CLAIM_LOCK = 0x69706175
# Wait before a retry if the bucket does not answer.
PAUSE = timedelta(seconds=15)


class LostUpload(Exception):
    """The client deleted the upload, or another worker claimed it."""


class _Lease:
    """The lease of the upload that this worker checks."""

    def __init__(self, upload: Upload):
        self.upload, self.token = upload, upload.lease_token
        self._renewed = time.monotonic()

    def rows(self) -> models.QuerySet[Upload]:
        return Upload.objects.filter(pk=self.upload.pk, completed_at__isnull=True)

    def renew(self) -> None:
        """Renew the lease if it is due. Raises LostUpload."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        if not leases.renew(self.rows(), token=self.token, lease=LEASE):
            raise LostUpload
        self._renewed = time.monotonic()


def check_upload(upload_id: UUID) -> UUID | None:
    """Create the file of a complete direct upload, or refuse it.

    Returns:
        The id of the owner, if there is a new file to inspect; otherwise None.
    """
    lease = _claim(upload_id)
    if lease is None:
        return None
    upload = lease.upload
    try:
        if upload.attempts > MAX_ATTEMPTS:
            raise Invalid(_("Checking this file failed 3 times. Try to upload it again."))
        _take(lease)
    except LostUpload:
        if not Upload.objects.filter(pk=upload.pk).exists():
            # The client deleted it: the object may have been assembled since.
            s3_multipart.discard(upload)
        return None
    except DomainError as error:
        _refuse(lease, error.message)
        return None
    except OSError:
        logger.exception("Could not check upload %s", upload.pk)
        # A storage error does not count as an attempt.
        leases.let_expire(lease.rows(), token=lease.token, after=PAUSE, refund_attempt=True)
        return None
    s3_multipart.discard(upload)
    return upload.owner_id


def has_room() -> bool:
    """Return whether another check may start at the same time. A large upload takes minutes."""
    # Running checks renew in time; uploads that wait for a retry have less than this left.
    running = Upload.objects.filter(leases.held(left=LEASE / 2), completed_at__isnull=True)
    most: int = settings.UPLOAD_CHECKS
    return running.count() < most


def _claim(upload_id: UUID) -> _Lease | None:
    with transaction.atomic(), connection.cursor() as cursor:
        # Claim one at a time, so that the limit on checks is not exceeded.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIM_LOCK])
        if not has_room():
            return None
        rows = Upload.objects.filter(s3_multipart.open_uploads(), pk=upload_id, sent_at__isnull=False)
        upload = leases.claim_first(rows, lease=LEASE)
    return None if upload is None else _Lease(upload)


def _take(lease: _Lease) -> None:
    upload = lease.upload
    # Before reading the object; `create_file` checks again under the owner's lock.
    quota.check_room(owner=upload.owner, size=upload.length)
    _assemble(upload)
    name = s3_multipart.name_of(upload)
    with s3_multipart.bucket().open_ranges(name) as content:
        found = sniff(content)
        digest, size = _digest(lease, content)
    if size != upload.length:
        raise Invalid(
            _("This upload has another length than announced. Upload the file again."), code="wrong_length"
        )
    stored = Stored(digest, size, found.content_type)
    blobs.keep(stored, lambda: s3_multipart.bucket().copy(name, stored.path, lease.renew))
    with transaction.atomic():
        if leases.owned(lease.rows(), lease.token).select_for_update().first() is None:
            raise LostUpload
        file = create_file(
            owner=upload.owner,
            folder=upload.folder,
            name=upload.name,
            stored=stored,
            facts=found,
            on_conflict=upload.on_conflict,
        )
        now = timezone.now()
        leases.release(
            lease.rows(),
            token=lease.token,
            file=file,
            offset=upload.length,
            completed_at=now,
            updated_at=now,
        )


def _assemble(upload: Upload) -> None:
    """Assemble the parts into one object, unless an earlier attempt has done it.

    Raises:
        Invalid: parts are missing or have the wrong size.
    """
    name = s3_multipart.name_of(upload)
    try:
        parts = s3_multipart.arrived(upload)
    except FileNotFoundError:
        if s3_multipart.bucket().exists(name):
            return
        raise Invalid(
            _("The uploaded parts no longer exist. Upload the file again."), code="lost_parts"
        ) from None
    if len(parts) != len(s3_multipart.sizes_of(upload)):
        raise Invalid(
            _("Some uploaded parts have changed or are missing. Upload the file again."), code="lost_parts"
        )
    s3_multipart.bucket().finish_parts(name, upload.multipart_id, parts)


def _digest(lease: _Lease, content: BinaryIO) -> tuple[str, int]:
    """Return SHA-256 and length in bytes of the whole object."""
    digest = hashlib.sha256()
    size = 0
    content.seek(0)
    while chunk := content.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        lease.renew()
    return digest.hexdigest(), size


def _refuse(lease: _Lease, reason: str) -> None:
    if leases.release(lease.rows(), token=lease.token, reason=reason[:300], updated_at=timezone.now()):
        s3_multipart.discard(lease.upload)


def uploads_waiting(*, older_than: timedelta = timedelta()) -> list[str]:
    """Return the id of each owner's oldest complete upload that no worker is checking, in random order.

    Args:
        older_than: minimum time since the last part, for uploads that were never claimed.
    """
    new = Q(lease_expires_at__isnull=True, sent_at__lte=timezone.now() - older_than)
    free = new | leases.expired()
    rows = Upload.objects.filter(free, s3_multipart.open_uploads(), sent_at__isnull=False)
    keys = list(rows.order_by("owner", "sent_at").distinct("owner").values_list("pk", flat=True))
    # Random, or the owner with the oldest uploads would always come first.
    random.shuffle(keys)
    return [str(key) for key in keys]
