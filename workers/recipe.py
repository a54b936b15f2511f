"""A recipe: the frozen list of steps that a worker runs, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from workers.plugin import OutputSpec

MOST_STEPS = 16
Outputs = Sequence[OutputSpec]


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


def name_steps(operations: Iterable[str]) -> tuple[str, ...]:
    """Name each step after its operation's key; 2, 3, … tell repeats apart.

    What comes later never changes a name: the first steps of a chain are called alike without the rest.
    """
    names: list[str] = []
    for key in operations:
        names.append(_distinct(key, names))
    return tuple(names)


def label_texts(steps: Iterable[Outputs]) -> tuple[dict[str, str], ...]:
    """Return for each step under which label its texts and its data are delivered: "text", then "text2", …"""
    taken: list[str] = []
    found = []
    for outputs in steps:
        own = {}
        for output in outputs:
            if output.kind in ("text", "data"):
                own[output.label] = _distinct(output.label, taken)
                taken.append(own[output.label])
        found.append(own)
    return tuple(found)


def find_misfit(steps: Sequence[Outputs]) -> int | None:
    """Return the position of the first step that would get no picture from the one before; None: all fit."""
    for position, outputs in enumerate(steps[:-1]):
        if not any(output.kind == "image" for output in outputs):
            return position + 1
    return None


def _distinct(name: str, taken: Collection[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found
