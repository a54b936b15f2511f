"""Celery tasks of uploads: inspection, direct uploads, renditions, sweeps; and functions that send them."""

from datetime import timedelta
from uuid import UUID

from drive.uploads import direct_work, expiry, renditions, s3_multipart, work
from ipau.common.alone import alone
from ipau.common.tasks import begins, task, wake, wake_once

SILENT = timedelta(seconds=8)
# Seconds before a queued wake-up is sent again.
AGAIN_SECONDS = 20
# Equal to the lease of a file. Celery kills a task that ignores this limit half a minute later.
INSPECTION_SECONDS = 60


# One turn of an owner at a time: slow files of one owner leave slots for others.
@task(name="drive.inspect_uploads", queue="background", soft_time_limit=INSPECTION_SECONDS)
def inspect_uploads(owner_id: str) -> None:
    begins(inspect_uploads, owner_id)
    with alone(f"inspecting:{owner_id}", seconds=INSPECTION_SECONDS + 30) as is_alone:
        if is_alone:
            work.inspect_uploads(UUID(owner_id))
    # Check again: wake-ups that arrived during this turn were skipped because of the lock.
    if is_alone and work.has_waiting(UUID(owner_id)):
        send_inspection(owner_id=owner_id)


# Reading many gigabytes takes minutes. The limit is below the visibility timeout of messages.
@task(name="drive.check_upload", queue="background", soft_time_limit=840)
def check_upload(upload_id: str) -> None:
    if not direct_work.has_room():
        return
    owner = direct_work.check_upload(UUID(upload_id))
    _check_next()
    if owner is not None:
        send_inspection(owner_id=str(owner))


@task(name="drive.make_renditions", queue="background")
def make_renditions(share_id: str) -> None:
    begins(make_renditions, share_id)
    if renditions.make_renditions(UUID(share_id)):
        send_renditions(share_id=share_id)


@task(name="drive.sweep", queue="background", expires=60)
def sweep() -> None:
    for owner_id in work.owners_waiting(older_than=SILENT):
        send_inspection(owner_id=owner_id)
    _check_next(older_than=SILENT)
    expiry.sweep_uploads()


@task(name="drive.sweep_multipart", queue="background", expires=3600)
def sweep_multipart() -> None:
    s3_multipart.sweep_bucket()


def send_inspection(*, owner_id: str) -> None:
    """Wake a worker for the owner's new uploads, once for all that arrive before it starts."""
    wake_once(inspect_uploads, owner_id, seconds=AGAIN_SECONDS)


def send_renditions(*, share_id: str) -> None:
    """Wake a worker for the missing renditions of a view-only link."""
    wake_once(make_renditions, share_id, seconds=int(SILENT.total_seconds()))


def send_check(*, upload_id: str) -> None:
    """Wake a worker to check a complete direct upload."""
    wake(check_upload, upload_id)


def _check_next(*, older_than: timedelta = timedelta()) -> None:
    """Wake a worker for one waiting direct upload of a random owner."""
    for upload_id in direct_work.uploads_waiting(older_than=older_than)[:1]:
        send_check(upload_id=upload_id)
