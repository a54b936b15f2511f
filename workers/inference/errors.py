"""Faults of a model that show when it is run: neither its picture's nor this site's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.plugin import OperationError

BREAKS_DOWN = "The model breaks down over this picture: it may take none of this size or shape."
STRANGE_OUTPUT = "The model gives something else for this picture than models of its kind do."
NOT_FINITE = (
    "The model’s numbers are not finite: it gives NaN or infinity for this picture. Use another picture, or "
    "tell its seller: mostly its weights are damaged, or too large for 16 bits."
)

TOO_SLOW = (
    "The model takes longer than {seconds:.3g} seconds for this picture, far longer than it was seen to."
)
CRASHES = "The model breaks down over this picture so badly that its process ends."
NO_MEMORY = (
    "The model needs more memory for this picture than {limit}. Use a smaller picture or image size{or_else}."
)
_ANY_LIMIT = "a model may have"
_RAISE_LIMIT = ", or have the operator of this site raise IPAU_MODEL_MEMORY_BYTES"
NO_MACHINE_MEMORY = (
    "The machine had no memory left while the model ran over this picture. Use a smaller picture or image "
    "size, or try it again later."
)
NO_GPU_MEMORY = (
    "The model needs more memory for this picture than the GPU has left. Use a smaller picture or image size."
)
_GIB = 2**30


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
    def out_of_memory(cls, limit: int = 0, *, is_setting: bool = False) -> ModelFault:
        """Return the fault of a run that needs more memory than a fresh process may have.

        Args:
            limit: of that process, in bytes; 0 where it is not known.
            is_setting: whether the limit is `IPAU_MODEL_MEMORY_BYTES`.
        """
        has = f"the {limit / _GIB:.3g} GiB that a model may have" if limit else _ANY_LIMIT
        return cls(NO_MEMORY.format(limit=has, or_else=_RAISE_LIMIT if is_setting else ""), "no_memory")

    @classmethod
    def killed_for_memory(cls, model: str) -> ModelFault:
        """Return the fault of a run whose process the kernel ended because the machine had no memory left."""
        return cls(NO_MACHINE_MEMORY, "no_memory", killed=model)

    @classmethod
    def out_of_gpu_memory(cls) -> ModelFault:
        """Return the fault of a run that does not fit into the GPU, alone.

        Its code is that of an image without memory, which is tried again in a fresh slot.
        """
        return cls(NO_GPU_MEMORY, "memory")

    @classmethod
    def not_finite(cls) -> ModelFault:
        """Return the fault of a run that gives NaN or infinity. Conversions refuse that by the same code."""
        return cls(NOT_FINITE, "numbers")


def check_finite(values: NDArray[Any]) -> None:
    """Raise ModelFault where one of the numbers that are read is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ModelFault.not_finite()


def check_scores(scores: NDArray[Any]) -> None:
    """Raise ModelFault for scores with NaN or infinity. Minus infinity rules a class out, unless all have it.

    One pass and no memory: detectors have a million scores.
    """
    if scores.size and not np.isfinite(scores.max()):
        raise ModelFault.not_finite()
