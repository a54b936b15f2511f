"""Faults of a model that show when it is run: neither its picture's nor this site's."""

from __future__ import annotations

from workers.plugin import OperationError

BREAKS_DOWN = "The model breaks down over this picture: it may take none of this size or shape."
STRANGE_OUTPUT = "The model gives something else for this picture than models of its kind do."


class ModelFault(OperationError):
    """A model, mostly one whose graph was uploaded, does not do what was seen of it when it was converted."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="model_fault")
