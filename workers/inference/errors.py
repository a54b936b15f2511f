"""Faults of a model at run time: neither the image nor this site causes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.plugin import OperationError

FAILS = "The model fails on this image. It may not accept images of this size or shape."
UNEXPECTED_OUTPUT = "The model’s output for this image does not have the format of the model’s task."
NOT_FINITE = (
    "The model’s output for this image is not finite: it contains NaN or infinity. Use another image, or "
    "report it to the seller: usually the weights are damaged, or too large for 16 bits."
)

TOO_SLOW = "The model takes more than {seconds:.3g} seconds for this image, far longer than measured before."
CRASHES = "The model crashes on this image, and its process ends."
NO_MEMORY = (
    "The model needs more memory for this image than {limit}. Use a smaller image, or lower the image "
    "size{or_else}."
)
_ANY_LIMIT = "a model may use"
_RAISE_LIMIT = ", or ask the operator of this site to raise IPAU_MODEL_MEMORY_BYTES"
NO_MACHINE_MEMORY = (
    "The machine ran out of memory while the model processed this image. Use a smaller image, lower the "
    "image size, or try again later."
)
NO_GPU_MEMORY = (
    "The model needs more memory for this image than the GPU has left. Use a smaller image, or lower the "
    "image size."
)
_GIB = 2**30


class ModelFault(OperationError):
    """A model does not behave as during its conversion. Mostly this is an uploaded graph.

    Attributes:
        killed: digest of the model if its process had to end, else empty. Models are paused if that happens
            often.
    """

    def __init__(self, message: str, code: str = "model_fault", *, killed: str = "") -> None:
        super().__init__(message, code=code)
        self.killed = killed

    @classmethod
    def overran(cls, model: str, seconds: float) -> ModelFault:
        """Return the fault of a run that exceeded its time limit."""
        return cls(TOO_SLOW.format(seconds=seconds), "too_slow", killed=model)

    @classmethod
    def crashed(cls, model: str) -> ModelFault:
        """Return the fault of a run that crashed its process."""
        return cls(CRASHES, killed=model)

    @classmethod
    def out_of_memory(cls, limit: int = 0, *, is_setting: bool = False) -> ModelFault:
        """Return the fault of a run that needs more memory than a new process may use.

        Args:
            limit: memory limit of that process, in bytes. 0: unknown.
            is_setting: whether the limit is `IPAU_MODEL_MEMORY_BYTES`.
        """
        shown = f"the {limit / _GIB:.3g} GiB that a model may use" if limit else _ANY_LIMIT
        return cls(NO_MEMORY.format(limit=shown, or_else=_RAISE_LIMIT if is_setting else ""), "no_memory")

    @classmethod
    def killed_for_memory(cls, model: str) -> ModelFault:
        """Return the fault of a run that the kernel killed because the machine ran out of memory."""
        return cls(NO_MACHINE_MEMORY, "no_memory", killed=model)

    @classmethod
    def out_of_gpu_memory(cls) -> ModelFault:
        """Return the fault of a single run that does not fit into GPU memory.

        Its code "memory" makes the job retry the image in a new slot process.
        """
        return cls(NO_GPU_MEMORY, "memory")

    @classmethod
    def not_finite(cls) -> ModelFault:
        """Return the fault of a run with NaN or infinity in its output. Conversions use the same code."""
        return cls(NOT_FINITE, "numbers")


def check_finite(values: NDArray[Any]) -> None:
    """Raise ModelFault if a value is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ModelFault.not_finite()


def check_scores(scores: NDArray[Any]) -> None:
    """Raise ModelFault for scores with NaN or infinity. Minus infinity is valid unless all scores have it.

    It makes one pass and no copy, because detectors have a million scores.
    """
    if scores.size and not np.isfinite(scores.max()):
        raise ModelFault.not_finite()
