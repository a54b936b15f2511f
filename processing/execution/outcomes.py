"""Outcomes of items: results, or the failure with its cause."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from django.conf import settings

from drive.storage.blobs import Stored
from ipau.common.errors import OUR_FAULT
from processing.execution.time_limits import TookTooLong
from processing.fleet.slot_memory import is_lack_of_memory
from processing.models import Item, State
from workers.plugin import OperationError

TOO_LONG = "This image takes longer than the limit of {seconds} seconds per image."
NO_MEMORY = "This image needs more memory than a worker has."
NO_ROOM = "The GPU has too little free memory for this model. Several attempts failed."
STORAGE = "The storage did not respond. Several attempts failed."


@dataclass(frozen=True)
class StoredFile:
    """A result file. Its bytes are in the storage already."""

    label: str
    suffix: str
    stored: Stored
    width: int | None
    height: int | None
    thumbnail: Stored | None


@dataclass(frozen=True)
class Done:
    """Outcome of one item. `reused`: an earlier result was reused."""

    item: Item
    state: State
    files: tuple[StoredFile, ...] = ()
    data: Any = None
    error_code: str = ""
    error: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    reused: bool = False


class NoRoomError(Exception):
    """The GPU has too little free memory for a model, perhaps only for a short time."""


class Fault(Enum):
    """Cause of a failure. It decides what follows."""

    # The image or its settings: the item fails with a message and is not retried.
    IMAGE = "image"
    # A short outage: retried a few times.
    TRANSIENT = "transient"
    # A bug of IPAU: a neutral message for the owner, a traceback in the log.
    OURS = "ours"


@dataclass(frozen=True)
class Failure:
    """Reason for a missing result: a code for programs, a message for people."""

    fault: Fault
    code: str
    message: str


def failure_of(error: BaseException) -> Failure:
    """Return the failure for an exception raised while an item ran, other than database errors."""
    if isinstance(error, OperationError):
        return Failure(Fault.IMAGE, error.code, error.message)
    if isinstance(error, TookTooLong):
        return Failure(Fault.IMAGE, "too_slow", TOO_LONG.format(seconds=settings.ITEM_SECONDS))
    if is_lack_of_memory(error):
        return Failure(Fault.IMAGE, "no_memory", NO_MEMORY)
    if isinstance(error, NoRoomError):
        return Failure(Fault.TRANSIENT, "no_room", NO_ROOM)
    if isinstance(error, OSError):
        return Failure(Fault.TRANSIENT, "storage", STORAGE)
    return Failure(Fault.OURS, "internal", OUR_FAULT)
