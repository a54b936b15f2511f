"""Recipe: the immutable list of steps that a worker runs, and its digest."""

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
    """An operation, or a family with weights, and its parameters, which are not validated yet.

    `weights` is the digest of the converted model that a family runs. For operations the JSON has no such
    key, so their digests stay the same.
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
    """Steps that run in sequence, each on the output image of the previous one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = Field(min_length=1, max_length=MOST_STEPS)

    @classmethod
    def single(
        cls, operation: str, params: dict[str, Any] | None = None, *, weights: str | None = None
    ) -> Recipe:
        """Return a recipe of one step."""
        return cls(steps=(Step(operation=operation, params=params or {}, weights=weights),))

    def weights(self) -> tuple[str, ...]:
        """Return the digests of the models that the steps run, without duplicates."""
        return tuple(dict.fromkeys(step.weights for step in self.steps if step.weights))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON. The order of parameters does not matter."""
        canonical = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(canonical.encode()).hexdigest()


def name_steps(operations: Iterable[str]) -> tuple[str, ...]:
    """Return one name for each step: its operation's key, numbered 2, 3, … if repeated.

    Later steps never change the names of earlier ones.
    """
    names: list[str] = []
    for key in operations:
        names.append(_make_unique(key, names))
    return tuple(names)


def label_texts(steps: Iterable[Outputs]) -> tuple[dict[str, str], ...]:
    """Return each step's labels of text and data outputs by its own label: "text", then "text2", …"""
    taken: list[str] = []
    labels = []
    for outputs in steps:
        own = {}
        for output in outputs:
            if output.kind in ("text", "data"):
                own[output.label] = _make_unique(output.label, taken)
                taken.append(own[output.label])
        labels.append(own)
    return tuple(labels)


def find_misfit(steps: Sequence[Outputs]) -> int | None:
    """Return the position of the first step without an input image from the previous one, else None."""
    for position, outputs in enumerate(steps[:-1]):
        if not any(output.kind == "image" for output in outputs):
            return position + 1
    return None


def _make_unique(name: str, taken: Collection[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}{number}"
    return unique
