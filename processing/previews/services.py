"""Previews: run a version on one reduced image and return the result at once."""

import hashlib
import time
import uuid
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File, FileState
from ipau.common.errors import Invalid, RateLimited, TimedOut, TooLarge, Unavailable
from ipau.common.http import concurrency
from market.models import Version
from processing.fleet import broker, registry
from processing.jobs.prepare import Prepared, prepare
from processing.previews import channel, queue
from processing.previews import tasks as previews_tasks
from processing.previews.channel import Answer
from workers.media.decode import PictureError, identify

PREVIEW_MAX_BYTES = 32 * 2**20
# Seconds after which a replaced request may be sent again.
RETRY_AFTER = 2


def preview_file(*, owner: User, version: Version, params: Mapping[str, Any], file: File) -> Answer:
    """Return a preview of a version on a file of the drive. Raises the errors of `preview_bytes`."""
    if file.state == FileState.REFUSED:
        raise Invalid(file.reason, code="refused")
    return preview_blob(owner=owner, version=version, params=params, blob_id=file.blob_id)


def preview_blob(*, owner: User | None, version: Version, params: Mapping[str, Any], blob_id: str) -> Answer:
    """Return a preview of a version on a stored blob, without a permission check on the blob.

    Raises the errors of `preview_bytes`.
    """
    prepared = prepare(owner=owner, version=version, params=params)
    return _preview(prepared, sha256=blob_id, source={"blob": blob_id})


def preview_bytes(*, owner: User | None, version: Version, params: Mapping[str, Any], data: bytes) -> Answer:
    """Return a preview of a version on an image that is not in the drive.

    Raises:
        Invalid: the image or a parameter cannot be used.
        TooLarge: the image has more bytes than a preview accepts.
        Unavailable: no preview worker runs, or too many requests wait.
        RateLimited: the account has too many pending previews.
        TimedOut: no worker answered in time.
    """
    if len(data) > PREVIEW_MAX_BYTES:
        raise TooLarge(f"This image is too large. A preview accepts at most {PREVIEW_MAX_BYTES // 2**20} MB.")
    try:
        identify(data)
    except PictureError as error:
        raise Invalid(error.message, code=error.code) from error
    prepared = prepare(owner=owner, version=version, params=params)
    return _preview(prepared, sha256=hashlib.sha256(data).hexdigest(), data=data)


def _preview(
    prepared: Prepared, *, sha256: str, source: dict[str, str] | None = None, data: bytes = b""
) -> Answer:
    try:
        return _ask_worker(prepared, sha256, source, data)
    except channel.ChannelError as error:
        raise Unavailable("Previews are unavailable right now. Try again in a moment.") from error


def _ask_worker(prepared: Prepared, sha256: str, source: dict[str, str] | None, data: bytes) -> Answer:
    key = channel.cache_key(sha256=sha256, recipe_digest=prepared.fingerprint, resources=prepared.resources)
    cached = channel.cached(key)
    if cached is not None:
        return cached
    with concurrency.waiting():
        answer = _request_preview(prepared, key, source or {"ticket": channel.store_image(data)})
    if answer.error_code == channel.SUPERSEDED:
        raise RateLimited(
            _("Newer previews of yours replaced this one. Try again in a moment."), retry_after=RETRY_AFTER
        )
    if answer.error:
        raise Invalid(answer.error, code=answer.error_code)
    return answer


def _request_preview(prepared: Prepared, key: str, source: dict[str, str]) -> Answer:
    """Send a preview request and wait for its answer; cancel the request on any failure."""
    request_id = uuid.uuid4().hex
    recipe = prepared.recipe.model_dump(mode="json")
    if not previews_tasks.send_preview(request_id, key, source, recipe, prepared.resources):
        raise Unavailable("Previews are unavailable right now. Try again in a moment.")
    answer = None
    try:
        answer = channel.wait_for(request_id, seconds=channel.WORKER_CHECK_SECONDS) or _wait_again(request_id)
    finally:
        if answer is None:
            queue.cancel(request_id)
            if "ticket" in source:
                channel.delete_image(source["ticket"])
    if answer is None:
        raise TimedOut("The preview took too long. The preview workers may be busy: try again in a moment.")
    return answer


def _wait_again(request_id: str) -> Answer | None:
    """Wait for a slow answer. Raises Unavailable if no preview worker runs."""
    ends = time.monotonic() + channel.REQUEST_TIMEOUT_SECONDS - channel.WORKER_CHECK_SECONDS
    if not registry.is_served(channel.QUEUE):
        # Only workers expire requests. Without one, requests would pile up.
        queue.drop()
        broker.drop(channel.QUEUE)
        raise Unavailable("No preview worker is running right now. You can still submit jobs.")
    # The slot that should take the request may have died in the meantime.
    previews_tasks.wake_preview()
    answer = None
    while answer is None and (left := ends - time.monotonic()) > 0:
        answer = channel.wait_for(request_id, seconds=min(left, channel.WAKE_CHECK_SECONDS))
        if answer is None and queue.assign():
            previews_tasks.wake_preview()
    return answer
