"""Helpers to submit and run jobs in tests, with worker code in the test process."""

import math
from collections.abc import Iterable
from typing import Any
from unittest import mock

from accounts.models import User
from drive.files.services import Selection
from drive.models import File
from market.models import Version
from processing import services
from processing.execution import runner, work
from processing.execution.outcomes import Done
from processing.execution.output_options import Options
from processing.job_queue import claims, wakeups
from processing.jobs.job_spec import Terms
from processing.models import Item, Job
from workers.plugin import Context
from workers.recipe import Recipe

# Without result reuse.
FRESH = Terms(options=Options(reuse=False))


def version(name: str = "blackwhite") -> Version:
    return Version.objects.select_related("listing").get(listing__owner__handle="ipau", listing__name=name)


def submit_version(owner: User, of: Version, files: Iterable[File], **options: Any) -> Job:
    params = options.pop("params", {})
    chosen = Selection(folders=(), files=tuple(files))
    return services.submit_job(owner=owner, version=of, params=params, selection=chosen, **options)


def submit(owner: User, files: Iterable[File], *, app: str = "blackwhite", **options: Any) -> Job:
    params = options.pop("params", {})
    return services.submit_job(
        owner=owner,
        version=version(app),
        params=params,
        selection=Selection(folders=(), files=tuple(files)),
        **options,
    )


def take_chunk(owner: User, queue: str = "cpu") -> None:
    """Take a turn that has time for only one image."""
    with mock.patch.object(wakeups, "TURN_SECONDS", 0):
        work.take_turn(owner.pk, queue)


def run_chunk(claim: claims.Claim) -> list[Done]:
    """Run the items of a claim without recording them."""
    recipe = Recipe.model_validate(claim.job.recipe)
    return runner.run_chunk(claim, recipe, Context(), ends=math.inf).done


def take_turns(owner: User, queue: str = "cpu", *, most: int = 100) -> int:
    """Take turns as a slot would until no item waits; return the number of turns."""
    for turn in range(1, most + 1):
        work.take_turn(owner.pk, queue)
        if not wakeups.waiting_items(owner.pk, queue, limit=1):
            return turn
    raise AssertionError(f"Items still wait after {most} turns.")


def on_gpu(job: Job) -> Job:
    """Move the job to the queue `gpu`."""
    Job.objects.filter(pk=job.pk).update(queue="gpu")
    job.refresh_from_db()
    return job


def states(job: Job) -> list[str]:
    return list(Item.objects.filter(job=job).order_by("position").values_list("state", flat=True))
