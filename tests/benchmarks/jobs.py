"""Jobs of benchmarks: many small files, run to completion and timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any


def submit(
    files: Sequence[Any],
    *,
    app: str = "blackwhite",
    reuse: bool = False,
    quality: int = 90,
    **params: Any,
) -> Any:
    """Submit a job over files of one owner."""
    from drive.files.services import Selection
    from market.models import Version
    from processing import services
    from processing.execution.output_options import Options

    version = Version.objects.select_related("listing").get(listing__name=app)
    return services.submit_job(
        owner=files[0].owner,
        version=version,
        params=params,
        selection=Selection((), tuple(files)),
        terms=services.Terms(options=Options(reuse=reuse, quality=quality)),
    )


def wait_for(job: Any) -> None:
    """Return when the job has succeeded. Raises RuntimeError where it ends in another way."""
    from processing.models import OPEN, Job, State

    begun = time.perf_counter()
    while (state := Job.objects.values_list("state", flat=True).get(pk=job.pk)) in OPEN:
        # Asking costs what is measured: seldom where it takes long.
        time.sleep(min(0.1, 0.02 + (time.perf_counter() - begun) / 50))
    if state != State.SUCCEEDED:
        raise RuntimeError(f"The job {state}.")


def time_of(files: Sequence[Any], **options: Any) -> float:
    """Return the seconds from submitting a job until its end."""
    begun = time.perf_counter()
    wait_for(submit(files, **options))
    return time.perf_counter() - begun


def repeat_files(files: Sequence[Any], number: int, *, owner: Any = None) -> list[Any]:
    """Return so many files of like content, in a folder of their own: rows only, the bytes are there."""
    from drive.models import File, Folder

    owner = owner or files[0].owner
    folder = Folder.objects.create(owner=owner, name=f"{number} files {time.monotonic_ns()}")
    wanted = ("blob_id", "kind", "content_type", "size", "width", "height", "state")
    made = [
        File(
            owner=owner,
            folder=folder,
            name=f"{index:06d}.jpg",
            **{name: getattr(files[index % len(files)], name) for name in wanted},
        )
        for index in range(number)
    ]
    return list(File.objects.bulk_create(made, batch_size=2000))


def new_person(name: str) -> Any:
    from accounts.models import User

    return User.objects.create_user(f"{name}-{time.monotonic_ns()}@example.org")
