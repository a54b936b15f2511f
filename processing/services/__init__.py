"""What people do with apps: preview, submit, look, cancel, retry."""

from processing.orders import Source, Terms
from processing.services.control import cancel_job, retry_job
from processing.services.looking import get_item, get_job, list_items, list_jobs
from processing.services.previews import PREVIEW_MAX_BYTES, preview_blob, preview_bytes, preview_file
from processing.services.repeating import Earlier, earlier_pictures, repeat_job
from processing.services.submitting import (
    quote_job,
    source_from_bytes,
    source_from_file,
    submit_job,
    submit_prediction,
)

__all__ = [
    "PREVIEW_MAX_BYTES",
    "Earlier",
    "Source",
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
