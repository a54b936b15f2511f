"""Bytes that are still there: found by their digests, and kept from the sweep until a transaction ends."""

from collections.abc import Collection

from django.db import connection

from drive.storage import blobs

# The sweep passes by rows that are locked. It can die between the bytes and their row; what it deletes is old
# and has nobody who refers to it, so the row of such bytes proves nothing.
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
    """Return those of `digests` whose bytes are certainly there, and stay until the transaction ends.

    Bytes that nobody refers to and nobody has touched for a while are left out: they may be gone already.
    """
    if not digests:
        return set()
    # Half of the time after which a sweep takes them: its clock may be another one.
    given: dict[str, float | list[str]] = {
        "digests": sorted(digests),
        "grace": blobs.GRACE.total_seconds() / 2,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, given)
        return {digest for digest, is_there in cursor.fetchall() if is_there}
