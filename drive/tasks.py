"""The envelopes that carry the drive's work to a worker."""

import time
from datetime import timedelta
from uuid import UUID

from drive import blobs, direct_work, multipart, parts, purging, quota, work
from ipau.common.tasks import begins, task, wake, wake_once

SILENT = timedelta(seconds=8)


@task(name="drive.inspect_uploads", queue="background")
def inspect_uploads(owner_id: str) -> None:
    begins(inspect_uploads, owner_id)
    if work.inspect_uploads(UUID(owner_id)):
        wake(inspect_uploads, owner_id)


# Reading a file of many gigabytes out of a bucket takes a while, but less than messages stay invisible for.
@task(name="drive.check_upload", queue="background", soft_time_limit=840)
def check_upload(upload_id: str) -> None:
    owner = direct_work.check_upload(UUID(upload_id))
    if owner is not None:
        send_inspection(owner_id=str(owner))


@task(name="drive.sweep", queue="background", expires=60)
def sweep() -> None:
    for owner_id in work.owners_waiting(older_than=SILENT):
        wake(inspect_uploads, owner_id)
    for upload_id in direct_work.uploads_waiting(older_than=SILENT):
        send_check(upload_id=upload_id)
    parts.sweep_uploads()


@task(name="drive.sweep_blobs", queue="background", expires=3600)
def sweep_blobs() -> None:
    blobs.sweep_storage(now=time.time())
    multipart.sweep_bucket()


@task(name="drive.sweep_trash", queue="background", expires=3600)
def sweep_trash() -> None:
    purging.sweep_trash()


@task(name="drive.verify_usage", queue="background", expires=3600)
def verify_usage() -> None:
    quota.verify_usage()


def send_inspection(*, owner_id: str) -> None:
    """Wake a worker for the owner's new uploads; once for all that come before it looks."""
    wake_once(inspect_uploads, owner_id, seconds=int(SILENT.total_seconds()))


def send_check(*, upload_id: str) -> None:
    """Wake a worker for an upload whose parts are all in the bucket."""
    wake(check_upload, upload_id)
