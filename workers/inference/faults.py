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
        killed: the digest of the model where the process that ran it had to end; empty otherwise. A model to
            which that happens often is paused.
    """

    def __init__(self, message: str, code: str = "model_fault", *, killed: str = "") -> None:
        super().__init__(message, code=code)
        self.killed = killed

    @classmethod
    def overran(cls, model: str, seconds: float) -> ModelFault:
        """Return the fault of a run that took longer than it may."""
        return cls(TOO_SLOW.format(seconds=seconds), "too_slow", killed=model)

    @classmethod
    def crashed(cls, model: str) -> ModelFault:
        """Return the fault of a run that ended its process."""
        return cls(CRASHES, killed=model)

    @classmethod
    def out_of_memory(cls) -> ModelFault:
        """Return the fault of a run that needs more memory than a process may have, be it ever so fresh."""
        return cls(NO_MEMORY, "no_memory")
