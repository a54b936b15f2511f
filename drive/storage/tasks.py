"""TODO."""

import time

from drive.storage import sweep as storage_sweep
from drive.uploads import s3_multipart
from ipau.common.tasks import task


@task(name="drive.sweep_blobs", queue="background", expires=3600)
def sweep_blobs() -> None:
    storage_sweep.sweep_storage(now=time.time())
    s3_multipart.sweep_bucket()
