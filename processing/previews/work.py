"""Preview slot: take requests from the queue, compute previews, send the answers."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from drive.storage import blobs
from ipau.common.errors import OUR_FAULT
from market.listings import pauses
from processing.execution import expected_time
from processing.execution.model_files import Blobs, models_of
from processing.execution.time_limits import TookTooLong, time_limit
from processing.fleet import registry
from processing.job_queue import claims
from processing.previews import channel
from processing.previews import queue as preview_queue
from workers import engine
from workers.plugin import Context, OperationError
from workers.recipe import Recipe

# Seconds a slot waits for another request, and seconds one task serves requests. Then the slot returns to its
# worker, which may want to stop it. The time limits of the task leave room for the last preview.
PREVIEW_PAUSE = 2.0
PREVIEWS_AT_MOST = 10.0
# Time limit of one preview. The answer must arrive before its request times out.
PREVIEW_SECONDS = channel.REQUEST_TIMEOUT_SECONDS - 3.0
logger = logging.getLogger(__name__)


def make_previews() -> bool:
    """Compute requested previews for a few seconds; return whether another slot must be woken.

    A slot of a worker that serves other queues too does not wait for further requests.
    """
    slot = registry.this_slot()
    for request_id, key, *_ in preview_queue.recover(slot.worker):
        channel.answer(request_id, key, channel.Answer(error_code=claims.LOST[0], error=claims.LOST[1]))
    pause = PREVIEW_PAUSE if registry.this_worker_serves_only(channel.QUEUE) else 0
    ends = time.monotonic() + PREVIEWS_AT_MOST
    left = False
    try:
        while time.monotonic() < ends:
            request = preview_queue.take(slot, seconds=pause)
            if request is None:
                break
            make_preview(*request)
    finally:
        # Also after an exception: the request no longer counts as running.
        left = preview_queue.end(slot)
    return left


def make_preview(
    request_id: str,
    key: str,
    source: Mapping[str, str],
    recipe: Mapping[str, Any],
    resources: Mapping[str, list[str]],
) -> None:
    """Run a recipe on one reduced image and send the answer to the waiting request.

    Args:
        source: {"blob": SHA-256}, or {"ticket": …} for an image that is not in the drive.
    """
    try:
        data = blobs.read(source["blob"]) if "blob" in source else channel.load_image(source["ticket"])
    except OSError:
        logger.exception("The storage failed to return %s for a preview", source)
        channel.answer(request_id, key, channel.Answer(error_code="storage", error=OUR_FAULT))
        return
    if data is None:
        return  # The request has timed out.
    pictures = {parameter: Blobs(digests) for parameter, digests in resources.items()}
    channel.answer(request_id, key, _preview(Recipe.model_validate(recipe), data, pictures))
    if "ticket" in source:
        # Only now: if this slot dies earlier, another one needs the image.
        channel.delete_image(source["ticket"])


def _preview(recipe: Recipe, data: bytes, pictures: Mapping[str, Blobs]) -> channel.Answer:
    try:
        with time_limit(PREVIEW_SECONDS):
            context = Context(
                pictures=pictures,
                models=models_of(recipe),
                network_seconds=min(PREVIEW_SECONDS, expected_time.network_seconds(recipe)),
            )
            result = engine.preview(recipe, data, context)
    except OperationError as error:
        pauses.note_fault(error)
        return channel.Answer(error_code=error.code, error=error.message)
    except (TookTooLong, MemoryError):
        return channel.Answer(
            error_code="too_slow", error="This preview took too long. Run a job instead: jobs have more time."
        )
    except Exception:
        logger.exception("A preview failed")
        return channel.Answer(error_code="internal", error=OUR_FAULT)
    picture = next((f for f in result.files if f.width), None)
    texts = {f.label: f.data.decode() for f in result.files if not f.width}
    return channel.Answer(
        content_type=picture.content_type if picture else "",
        body=picture.data if picture else b"",
        width=(picture.width or 0) if picture else 0,
        height=(picture.height or 0) if picture else 0,
        texts=texts,
        data=result.data,
        timings=result.timings,
    )
