"""Public services of processing: preview, submit, query, cancel, retry and repeat."""

from processing.jobs.control import cancel_job, retry_job
from processing.jobs.job_spec import JobInput, Terms
from processing.jobs.queries import get_item, get_job, list_items, list_jobs
from processing.jobs.repeat import Earlier, earlier_pictures, repeat_job
from processing.jobs.submit import (
    quote_job,
    source_from_bytes,
    source_from_file,
    submit_job,
    submit_prediction,
)
from processing.previews.services import PREVIEW_MAX_BYTES, preview_blob, preview_bytes, preview_file

__all__ = [
    "PREVIEW_MAX_BYTES",
    "Earlier",
    "JobInput",
    "Terms",
    "cancel_job",
    "earlier_pictures",
    "get_item",
    "get_job",
    "list_items",
    "list_jobs",
    "preview_blob",
    "preview_bytes",
    "preview_file",
    "quote_job",
    "repeat_job",
    "retry_job",
    "source_from_bytes",
    "source_from_file",
    "submit_job",
    "submit_prediction",
]
