"""Uploaded weights as families receive them: inert data and lazy tensors, without code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Far above the largest model for single images. Each parameter takes four bytes of a worker's memory.
MOST_PARAMETERS = 300_000_000


class Refused(Exception):
    """The weights are refused. The message is a sentence for the seller; `code` names the reason."""

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True)
class WeightsUpload:
    """Content of a file of weights.

    Attributes:
        tensors: torch tensors by name, made on access. Names in nested dictionaries are joined with dots
            («params_ema.conv_first.weight»). Empty for ONNX: read `path`.
        tree: content of a PyTorch checkpoint: plain values, and
            `workers.checkpoints.pickle_reader.Stub` for each object.
        config: the uploaded `config.json`.
        metadata: the metadata in the file.
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
