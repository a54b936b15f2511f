"""What a preview slot does: it takes requests from the queue, makes previews, and hands over the answers."""

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

# Seconds for which a slot waits for another preview, and for which it goes on with them. Then it hears from
# its worker again, whether to stop for example. The task's time limits leave room for the last one.
PREVIEW_PAUSE = 2.0
PREVIEWS_AT_MOST = 10.0
# For one preview, so that its answer comes before nobody waits for it any more.
PREVIEW_SECONDS = channel.PATIENCE_SECONDS - 3.0
logger = logging.getLogger(__name__)


def make_previews() -> bool:
    """Make the previews that are asked for, and wait a little for another, but leave after a while.

    A slot that has other work to do does not wait. Returns whether another slot has to be woken.
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
        # An exception too ends what this slot held, so that it no longer counts as running.
        left = preview_queue.end(slot)
    return left


def make_preview(
    request_id: str,
    key: str,
    source: Mapping[str, str],
    recipe: Mapping[str, Any],
    resources: Mapping[str, list[str]],
) -> None:
    """Run a recipe on one reduced picture and hand the answer to the request that waits.

    Args:
        source: {"blob": SHA-256} or {"ticket": …} of a picture that is not in the drive.
    """
    try:
        data = blobs.read(source["blob"]) if "blob" in source else channel.picture_of(source["ticket"])
    except OSError:
        logger.exception("The storage did not give %s for a preview", source)
        channel.answer(request_id, key, channel.Answer(error_code="storage", error=OUR_FAULT))
        return
    if data is None:
        return  # Nobody waits any more.
    pictures = {parameter: Blobs(digests) for parameter, digests in resources.items()}
    channel.answer(request_id, key, _preview(Recipe.model_validate(recipe), data, pictures))
    if "ticket" in source:
        # Not before: where this slot ends meanwhile, another needs the picture.
        channel.drop_picture(source["ticket"])


def _preview(recipe: Recipe, data: bytes, pictures: Mapping[str, Blobs]) -> channel.Answer:
    try:
        with time_limit(PREVIEW_SECONDS):
            context = Context(
                pictures=pictures,
                models=models_of(recipe),
                network_seconds=min(PREVIEW_SECONDS, expected_time.network_seconds(recipe)),
            )
            made = engine.preview(recipe, data, context)
    except OperationError as error:
        pauses.note_fault(error)
        return channel.Answer(error_code=error.code, error=error.message)
    except (TookTooLong, MemoryError):
        return channel.Answer(
            error_code="too_slow", error="This preview takes too long. A job may still do it."
        )
    except Exception:
        logger.exception("A preview failed")
        return channel.Answer(error_code="internal", error=OUR_FAULT)
    picture = next((f for f in made.files if f.width), None)
    texts = {f.label: f.data.decode() for f in made.files if not f.width}
    return channel.Answer(
        content_type=picture.content_type if picture else "",
        body=picture.data if picture else b"",
        width=(picture.width or 0) if picture else 0,
        height=(picture.height or 0) if picture else 0,
        texts=texts,
        data=made.data,
        timings=made.timings,
    )
