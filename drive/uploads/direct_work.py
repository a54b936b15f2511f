"""What a worker does with an upload whose parts a browser has sent into the bucket: it trusts none of it.

The parts become one object; its bytes are read, measured and recognised here, copied inside the bucket to
where the drive keeps them, and only then there is a file. Every step may be done twice.
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
# Whoever checks renews the lease this often; one who dies gives the upload back by running late.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0
MAX_ATTEMPTS = 3
# PostgreSQL's number for claiming one.
_CLAIMING = 0x69706175
# When to ask a bucket again that did not answer.
PAUSE = timedelta(seconds=15)


class LostUpload(Exception):
    """Its sender has given it up, or another worker has taken it over."""


class _Lease:
    """The right to settle an upload."""

    def __init__(self, upload: Upload):
        self.upload, self.token = upload, upload.lease_token
        self._renewed = time.monotonic()

    def rows(self) -> models.QuerySet[Upload]:
        return Upload.objects.filter(pk=self.upload.pk, completed_at__isnull=True)

    def renew(self) -> None:
        """Keep the upload a while longer. Raises LostUpload."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        if not leases.renew(self.rows(), token=self.token, lease=LEASE):
            raise LostUpload
        self._renewed = time.monotonic()


def check_upload(upload_id: UUID) -> UUID | None:
    """Make a file of an upload that is all there, or refuse it.

    Returns:
        The owner, whose new file is to be inspected; None where nothing came of it.
    """
    lease = _claim(upload_id)
    if lease is None:
        return None
    upload = lease.upload
    try:
        if upload.attempts > MAX_ATTEMPTS:
            raise Invalid(_("This file could not be checked."))
        _take(lease)
    except LostUpload:
        if not Upload.objects.filter(pk=upload.pk).exists():
            # Given up: some of it may have been put together since.
            s3_multipart.discard(upload)
        return None
    except DomainError as error:
        _refuse(lease, error.message)
        return None
    except OSError:
        logger.exception("Could not check upload %s", upload.pk)
        # That was not the upload's fault.
        leases.let_expire(lease.rows(), token=lease.token, after=PAUSE, refund_attempt=True)
        return None
    s3_multipart.discard(upload)
    return upload.owner_id


def has_room() -> bool:
    """Return whether another upload may be checked beside those that are. A large one takes minutes."""
    # Who is at one renews in time. What waits for a bucket to answer again has less left.
    at_work = Upload.objects.filter(leases.held(left=LEASE / 2), completed_at__isnull=True)
    most: int = settings.UPLOAD_CHECKS
    return at_work.count() < most


def _claim(upload_id: UUID) -> _Lease | None:
    with transaction.atomic(), connection.cursor() as cursor:
        # One after another, so that the last room is not taken twice.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMING])
        if not has_room():
            return None
        rows = Upload.objects.filter(s3_multipart.open_uploads(), pk=upload_id, sent_at__isnull=False)
        upload = leases.claim_first(rows, lease=LEASE)
    return None if upload is None else _Lease(upload)


def _take(lease: _Lease) -> None:
    upload = lease.upload
    # Before all of it is read; under the owner's lock it is asked again.
    quota.check_room(owner=upload.owner, size=upload.length)
    _assemble(upload)
    name = s3_multipart.name_of(upload)
    with s3_multipart.bucket().open_ranges(name) as content:
        found = sniff(content)
        digest, size = _digest(lease, content)
    if size != upload.length:
        raise Invalid(_("This upload is not as long as was announced."), code="wrong_length")
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
    """Have the bucket make one object of the parts, unless an earlier turn has.

    Raises:
        Invalid: some are missing, or are not as long as they shall be.
    """
    name = s3_multipart.name_of(upload)
    try:
        parts = s3_multipart.arrived(upload)
    except FileNotFoundError:
        if s3_multipart.bucket().exists(name):
            return
        raise Invalid(_("What was uploaded is not there any more."), code="lost_parts") from None
    if len(parts) != len(s3_multipart.sizes_of(upload)):
        raise Invalid(_("Some of what was uploaded has changed or is missing."), code="lost_parts")
    s3_multipart.bucket().finish_parts(name, upload.multipart_id, parts)


def _digest(lease: _Lease, content: BinaryIO) -> tuple[str, int]:
    """Return SHA-256 and length in bytes of all that there is."""
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
    """Return of each owner the oldest upload that is all there and that nobody is checking, in any order.

    Args:
        older_than: of those that nobody has begun to check for this long.
    """
    new = Q(lease_expires_at__isnull=True, sent_at__lte=timezone.now() - older_than)
    free = new | leases.expired()
    rows = Upload.objects.filter(free, s3_multipart.open_uploads(), sent_at__isnull=False)
    keys = list(rows.order_by("owner", "sent_at").distinct("owner").values_list("pk", flat=True))
    # By chance, or one whose uploads are older would always come first.
    random.shuffle(keys)
    return [str(key) for key in keys]
