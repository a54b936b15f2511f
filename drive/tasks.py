"""The envelopes that carry the drive's work to a worker."""

import time
from datetime import timedelta
from uuid import UUID

from drive import blobs, parts, purging, quota, work
from ipau.common.tasks import begins, task, wake, wake_once

SILENT = timedelta(seconds=8)


@task(name="drive.inspect_uploads", queue="convert")
def inspect_uploads(owner_id: str) -> None:
    begins(inspect_uploads, owner_id)
    if work.inspect_uploads(UUID(owner_id)):
        wake(inspect_uploads, owner_id)


@task(name="drive.sweep", queue="convert", expires=60)
def sweep() -> None:
    for owner_id in work.owners_waiting(older_than=SILENT):
        wake(inspect_uploads, owner_id)
    parts.sweep_uploads()


@task(name="drive.sweep_blobs", queue="convert", expires=3600)
def sweep_blobs() -> None:
    blobs.sweep_storage(now=time.time())


@task(name="drive.sweep_trash", queue="convert", expires=3600)
def sweep_trash() -> None:
    purging.sweep_trash()


@task(name="drive.verify_usage", queue="convert", expires=3600)
def verify_usage() -> None:
    quota.verify_usage()


def send_inspection(*, owner_id: str) -> None:
    """Wake a worker for the owner's new uploads; once for all that come before it looks."""
    wake_once(inspect_uploads, owner_id, seconds=int(SILENT.total_seconds()))
