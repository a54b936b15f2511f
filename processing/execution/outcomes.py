"""What came of an item: its results, or whose fault it is that there are none."""

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

TOO_LONG = "This picture takes longer than the {seconds} seconds that one may take."
NO_MEMORY = "This picture needs more memory than a worker has."
NO_ROOM = "The GPU had no room for this model, though it was tried several times."
STORAGE = "The storage did not answer, though it was tried several times."


@dataclass(frozen=True)
class StoredFile:
    """A result whose bytes are in the storage already."""

    label: str
    suffix: str
    stored: Stored
    width: int | None
    height: int | None
    thumbnail: Stored | None


@dataclass(frozen=True)
class Done:
    """How one item ended. `reused`: its results were there before."""

    item: Item
    state: State
    files: tuple[StoredFile, ...] = ()
    data: Any = None
    error_code: str = ""
    error: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    reused: bool = False


class NoRoomError(Exception):
    """The GPU has no room for a model: perhaps because of another program, and not for long."""


class Fault(Enum):
    """Whose fault it is, which decides what follows."""

    # The picture's or its owner's: the item fails with a sentence, and is not tried again.
    PICTURE = "picture"
    # Nobody's for long: tried again, a few times.
    TRANSIENT = "transient"
    # Ours: a neutral sentence for the owner, a traceback in the log.
    OURS = "ours"


@dataclass(frozen=True)
class Failure:
    """Why there is no result: a code for programs, a sentence for people."""

    fault: Fault
    code: str
    message: str


def failure_of(error: BaseException) -> Failure:
    """Sort what was raised while an item was run. Faults of the database are not for here."""
    if isinstance(error, OperationError):
        return Failure(Fault.PICTURE, error.code, error.message)
    if isinstance(error, TookTooLong):
        return Failure(Fault.PICTURE, "too_slow", TOO_LONG.format(seconds=settings.ITEM_SECONDS))
    if is_lack_of_memory(error):
        return Failure(Fault.PICTURE, "no_memory", NO_MEMORY)
    if isinstance(error, NoRoomError):
        return Failure(Fault.TRANSIENT, "no_room", NO_ROOM)
    if isinstance(error, OSError):
        return Failure(Fault.TRANSIENT, "storage", STORAGE)
    return Failure(Fault.OURS, "internal", OUR_FAULT)
