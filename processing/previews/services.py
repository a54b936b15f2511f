"""Previews: what a version does to one picture, reduced, at once."""

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
# Seconds after which a request that gave way to newer ones may be sent again.
RETRY_AFTER = 2


def preview_file(*, owner: User, version: Version, params: Mapping[str, Any], file: File) -> Answer:
    """Show what a version does to a file of the drive, reduced, at once. Raises as `preview_bytes`."""
    if file.state == FileState.REFUSED:
        raise Invalid(file.reason, code="refused")
    return preview_blob(owner=owner, version=version, params=params, blob_id=file.blob_id)


def preview_blob(*, owner: User | None, version: Version, params: Mapping[str, Any], blob_id: str) -> Answer:
    """Show what a version does to a picture that is kept, whoever may see it. Raises as `preview_bytes`."""
    prepared = prepare(owner=owner, version=version, params=params)
    return _preview(prepared, sha256=blob_id, source={"blob": blob_id})


def preview_bytes(*, owner: User | None, version: Version, params: Mapping[str, Any], data: bytes) -> Answer:
    """Show what a version does to a picture that is not in the drive.

    Raises:
        Invalid: the picture or a parameter cannot be used.
        TooLarge: more bytes than a preview may carry.
        Unavailable: no preview worker runs, or too many requests wait.
        RateLimited: this person has too many previews under way.
        TimedOut: none answered in time.
    """
    if len(data) > PREVIEW_MAX_BYTES:
        raise TooLarge(f"A preview takes {PREVIEW_MAX_BYTES // 2**20} MB at most.")
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
        raise Unavailable("Previews do not answer just now. Try again in a moment.") from error


def _ask_worker(prepared: Prepared, sha256: str, source: dict[str, str] | None, data: bytes) -> Answer:
    key = channel.cache_key(sha256=sha256, recipe_digest=prepared.fingerprint, resources=prepared.resources)
    kept = channel.kept(key)
    if kept is not None:
        return kept
    with concurrency.waiting():
        answer = _make(prepared, key, source or {"ticket": channel.leave_picture(data)})
    if answer.error_code == channel.SUPERSEDED:
        raise RateLimited(
            _("Newer previews of yours are waiting, so this one was not made."), retry_after=RETRY_AFTER
        )
    if answer.error:
        raise Invalid(answer.error, code=answer.error_code)
    return answer


def _make(prepared: Prepared, key: str, source: dict[str, str]) -> Answer:
    """Have a preview worker answer. Nothing is left to be done for a request that is no longer waited for."""
    request_id = uuid.uuid4().hex
    recipe = prepared.recipe.model_dump(mode="json")
    if not previews_tasks.send_preview(request_id, key, source, recipe, prepared.resources):
        raise Unavailable("Previews do not answer just now. Try again in a moment.")
    answer = None
    try:
        answer = channel.wait_for(request_id, seconds=channel.DOUBT_SECONDS) or _wait_on(request_id)
    finally:
        if answer is None:
            queue.withdraw(request_id)
            if "ticket" in source:
                channel.drop_picture(source["ticket"])
    if answer is None:
        raise TimedOut("The preview took too long. The preview workers may be busy: try again in a moment.")
    return answer


def _wait_on(request_id: str) -> Answer | None:
    """Wait for what takes long, or for what nobody does."""
    ends = time.monotonic() + channel.PATIENCE_SECONDS - channel.DOUBT_SECONDS
    if not registry.is_served(channel.QUEUE):
        # Requests expire, but only in the hands of a worker: without one they would pile up.
        queue.drop()
        broker.drop(channel.QUEUE)
        raise Unavailable("No preview worker is running just now. Jobs can still be submitted.")
    # The slot that was to take it may have died meanwhile.
    previews_tasks.wake_preview()
    answer = None
    while answer is None and (left := ends - time.monotonic()) > 0:
        answer = channel.wait_for(request_id, seconds=min(left, channel.STIR_SECONDS))
        if answer is None and queue.stir():
            previews_tasks.wake_preview()
    return answer
