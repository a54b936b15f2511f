"""An operation that does nothing, and a Celery task per image for comparison.

Imported by the worker of `bench_queue` (`celery worker -I tests.benchmarks.noop`).
"""

from __future__ import annotations

from uuid import UUID

from celery import current_app
from django.db.models import F

from drive.storage import blobs
from processing.models import Item, Job, State
from workers import registry
from workers.plugin import Context, Operation, Params, PictureView, Result

KEY = "noop"


class NoParams(Params):
    """Nothing to set."""


class Noop(Operation[NoParams]):
    """Delivers nothing, so that only the way there and back is measured."""

    key = KEY
    title = "No operation"
    summary = "Does nothing."
    description = "For measuring."
    outputs = ()
    Params = NoParams

    def run(self, picture: PictureView, params: NoParams, context: Context) -> Result:
        return Result()


@current_app.task(name="bench.one_picture", queue="cpu", acks_late=True, ignore_result=True)
def one_picture(item_id: str) -> None:
    """One picture as one message: load the row, read the bytes, do nothing, write the outcome."""
    item = Item.objects.get(pk=UUID(item_id))
    blobs.read(item.blob_id)
    Item.objects.filter(pk=item.pk).update(state=State.SUCCEEDED, error_code="")
    Job.objects.filter(pk=item.job_id).update(succeeded=F("succeeded") + 1)


# Never left, and kept from the garbage collector: the operation is there as long as the process.
REGISTERED = registry.register(Noop())
REGISTERED.__enter__()
