"""A recipe: the frozen list of steps that a worker runs, and its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

MOST_STEPS = 16


class Step(BaseModel):
    """One operation, or a family with somebody's weights, and its settings, not yet validated against it.

    `weights` is the digest of the converted model that a family runs. Without one it is not written down
    either, so recipes of operations read as they always have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str = Field(min_length=1, max_length=64)
    params: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if name != "weights" or value is not None}


class Recipe(BaseModel):
    """Steps run one after another, each on the picture the one before made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = Field(min_length=1, max_length=MOST_STEPS)

    @classmethod
    def single(
        cls, operation: str, params: dict[str, Any] | None = None, *, weights: str | None = None
    ) -> Recipe:
        """A recipe of one step."""
        return cls(steps=(Step(operation=operation, params=params or {}, weights=weights),))

    def weights(self) -> tuple[str, ...]:
        """Return the digests of the models that its steps run, each once."""
        return tuple(dict.fromkeys(step.weights for step in self.steps if step.weights))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the same whatever the order of the params."""
        canonical = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(canonical.encode()).hexdigest()
