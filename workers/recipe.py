"""A recipe: the frozen list of steps that a worker runs, and its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS = 16


class Step(BaseModel):
    """One operation with its settings, not yet validated against the operation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str = Field(min_length=1, max_length=64)
    params: dict[str, Any] = Field(default_factory=dict)


class Recipe(BaseModel):
    """Steps run one after another, each on the picture the one before made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = Field(min_length=1, max_length=MOST_STEPS)

    @classmethod
    def single(cls, operation: str, params: dict[str, Any] | None = None) -> Recipe:
        """A recipe of one step."""
        return cls(steps=(Step(operation=operation, params=params or {}),))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the same whatever the order of the params."""
        canonical = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(canonical.encode()).hexdigest()
