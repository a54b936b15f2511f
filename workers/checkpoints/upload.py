"""An upload as families see it: inert data and tensors, nothing of which has run or can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Far above the largest model that serves single pictures; each is four bytes in a worker's memory.
MOST_PARAMETERS = 300_000_000


class Refused(Exception):
    """These weights are not taken. The message is a sentence for the seller; `code` names the reason."""

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True)
class WeightsUpload:
    """What was read of a file of weights.

    `tensors` are its torch tensors by name, made when they are asked for; dictionaries inside dictionaries
    join their names with dots («params_ema.conv_first.weight»). For ONNX it is empty: read `path`.
    `tree` is what a PyTorch checkpoint holds: plain values, and
    `workers.checkpoints.pickle_reader.Stub` for each object.
    `config` is the `config.json` that was sent along, `metadata` what the file says of itself.
    """

    format: Literal["torch", "safetensors", "onnx"]
    path: Path
    tensors: Mapping[str, Any] = field(default_factory=dict)
    tree: Any = None
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def show(name: str, most: int) -> str:
    """Return the printable part of the first `most` characters."""
    return "".join(character for character in name[:most] if character.isprintable())
