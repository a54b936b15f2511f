"""Faults of a model that show when it is run: neither its picture's nor this site's."""

from __future__ import annotations

from workers.plugin import OperationError

BREAKS_DOWN = "The model breaks down over this picture: it may take none of this size or shape."
STRANGE_OUTPUT = "The model gives something else for this picture than models of its kind do."


TOO_SLOW = (
    "The model takes longer than {seconds:.3g} seconds for this picture, far longer than it was seen to."
)
CRASHES = "The model breaks down over this picture so badly that its process ends."
NO_MEMORY = "The model needs more memory for this picture than a model may have."


class ModelFault(OperationError):
    """A model, mostly one whose graph was uploaded, does not do what was seen of it when it was converted.

    Attributes:
        has_ended_process: whether the process that ran it had to end. A model that does so often is paused.
    """

    def __init__(self, message: str, code: str = "model_fault", *, has_ended_process: bool = False) -> None:
        super().__init__(message, code=code)
        self.has_ended_process = has_ended_process

    @classmethod
    def overran(cls, seconds: float) -> ModelFault:
        """Return the fault of a run that took longer than it may."""
        return cls(TOO_SLOW.format(seconds=seconds), "too_slow", has_ended_process=True)

    @classmethod
    def crashed(cls) -> ModelFault:
        """Return the fault of a run that ended its process."""
        return cls(CRASHES, has_ended_process=True)

    @classmethod
    def out_of_memory(cls) -> ModelFault:
        """Return the fault of a run that needs more memory than a process may have, be it ever so fresh."""
        return cls(NO_MEMORY, "no_memory")
