"""Lock blobs against the storage sweep until a transaction ends."""

from collections.abc import Collection

from django.db import connection

from drive.storage import blobs

# The sweep skips locked rows. It may crash after deleting the bytes and before deleting the row, so the row
# of an old, unreferenced blob does not prove that its bytes exist.
_HOLD = """
    SELECT blob.sha256,
        blob.touched_at > statement_timestamp() - %(grace)s * interval '1 second'
        OR EXISTS (SELECT FROM drive_file AS file WHERE file.blob_id = blob.sha256)
        OR EXISTS (SELECT FROM drive_thumbnail AS thumbnail WHERE thumbnail.blob_id = blob.sha256)
    FROM drive_blob AS blob
    WHERE blob.sha256 = ANY(%(digests)s)
    ORDER BY blob.sha256
    FOR KEY SHARE OF blob
"""


def hold_bytes(digests: Collection[str]) -> set[str]:
    """Lock blobs until the transaction ends; return the digests that are guaranteed to exist.

    Old blobs without a reference are left out: the sweep may have deleted their bytes.
    """
    if not digests:
        return set()
    # Half of the sweep's grace period: its clock may differ.
    parameters: dict[str, float | list[str]] = {
        "digests": sorted(digests),
        "grace": blobs.GRACE.total_seconds() / 2,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, parameters)
        return {digest for digest, is_there in cursor.fetchall() if is_there}
