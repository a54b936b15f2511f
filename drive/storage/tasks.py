"""Celery task: the sweep of the storage."""

import time

from drive.storage import sweep
from ipau.common.tasks import task


@task(name="drive.sweep_blobs", queue="background", expires=3600)
def sweep_blobs() -> None:
    sweep.sweep_storage(now=time.time())
