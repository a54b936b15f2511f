"""The envelopes that carry the drive's work to a worker."""

from datetime import timedelta
from uuid import UUID

from drive.uploads import direct_work, expiry, renditions, s3_multipart, work
from ipau.common.alone import alone
from ipau.common.tasks import begins, task, wake, wake_once

SILENT = timedelta(seconds=8)
# A wake-up that waits behind others is not sent again for so long.
AGAIN_SECONDS = 20
# As long as the lease of the file that a turn is at; Celery ends what does not heed it half a minute later.
INSPECTION_SECONDS = 60


# One turn of an owner at a time: however slow their files are, other slots are left for everybody else.
@task(name="drive.inspect_uploads", queue="background", soft_time_limit=INSPECTION_SECONDS)
def inspect_uploads(owner_id: str) -> None:
    begins(inspect_uploads, owner_id)
    with alone(f"inspecting:{owner_id}", seconds=INSPECTION_SECONDS + 30) as is_alone:
        if is_alone:
            work.inspect_uploads(UUID(owner_id))
    # Asked again behind it: what came meanwhile has woken a turn that left it to this one.
    if is_alone and work.has_waiting(UUID(owner_id)):
        send_inspection(owner_id=owner_id)


# Reading a file of many gigabytes out of a bucket takes a while, but less than messages stay invisible for.
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
    """Wake a worker for the owner's new uploads; once for all that come before it looks."""
    wake_once(inspect_uploads, owner_id, seconds=AGAIN_SECONDS)


def send_renditions(*, share_id: str) -> None:
    """Wake a worker for the images that visitors of a view-only link are to see."""
    wake_once(make_renditions, share_id, seconds=int(SILENT.total_seconds()))


def send_check(*, upload_id: str) -> None:
    """Wake a worker for an upload whose parts are all in the bucket."""
    wake(check_upload, upload_id)


def _check_next(*, older_than: timedelta = timedelta()) -> None:
    """Wake a worker for one of the uploads that nobody has begun to check, of one owner or another."""
    for upload_id in direct_work.uploads_waiting(older_than=older_than)[:1]:
        send_check(upload_id=upload_id)
