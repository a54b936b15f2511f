"""A converted model on disk: model.json, the weights and the ONNX graph. model.json has their digests."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workers import tasks
from workers.checkpoints.class_names import MOST_NAME, MOST_NAMES
from workers.checkpoints.onnx_check import check_graph
from workers.checkpoints.safetensors_header import read_safetensors
from workers.checkpoints.upload import MOST_PARAMETERS, Refused
from workers.formats.byte_source import ByteSource, FormatError

CONVERTER = 2
FACTS, WEIGHTS, GRAPH = "model.json", "weights.safetensors", "model.onnx"
MOST_FACTS_BYTES = 4 * 1024 * 1024
MOST_FILE_BYTES = MOST_PARAMETERS * 4 + 64 * 1024 * 1024
_CHUNK = 1024 * 1024
# Per image. The largest known networks need a hundredth of it.
MOST_FLOPS = 10**16
# The family that runs uploaded graphs unchanged. All other families rebuild a network.
GRAPHS = "onnx"
# Smallest center crop of a classifier, as a fraction of the shorter side.
LEAST_CROP = 0.01
# Pillow's resampling filters, in the order of their numbers.
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


class BundleError(Exception):
    """The folder does not contain a valid converted model."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSize(_Strict):
    """Input size of the model, in pixels. 0: any size."""

    width: int = Field(ge=0, le=8192)
    height: int = Field(ge=0, le=8192)
    channels: int = Field(ge=1, le=1024)


class FileFacts(_Strict):
    """SHA-256 and size in bytes of one file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=1, le=MOST_FILE_BYTES)


class Choice(_Strict):
    """One possible interpretation of the outputs of an uploaded graph."""

    task: str = Field(pattern=tasks.PATTERN)
    layout: str = Field(default="", max_length=64)
    classes: int = Field(ge=0, le=10**6)
    # Whether the file alone suggests it, regardless of what its owner stated or chose.
    is_recognised: bool = False


def _check_shown(text: str) -> str:
    """Check that a name is printable: pages, files and the database reject NUL and lone surrogates."""
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


def _check_together(names: list[str]) -> list[str]:
    if sum(map(len, names)) > MOST_NAMES:
        raise ValueError(f"the names have more than {MOST_NAMES} characters in total")
    return names


Shown = Annotated[str, Field(min_length=1, max_length=MOST_NAME), AfterValidator(_check_shown)]


Classes = Annotated[list[Shown], Field(max_length=50_000), AfterValidator(_check_together)]


class ReadOutput(_Strict):
    """Name of the graph output that is used, and how many outputs the graph has."""

    name: Shown
    count: int = Field(ge=2)


class ModelFacts(_Strict):
    """Schema of model.json. Families add their own facts under `architecture` only."""

    family: str = Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")
    task: str = Field(pattern=tasks.PATTERN)
    title: Shown
    # Name of the wrapper, if these weights are the averaged copy (EMA) in a file with several copies.
    averaged: Annotated[str, Field(max_length=MOST_NAME), AfterValidator(_check_shown)] | None = None
    classes: Classes = Field(default_factory=list)
    input: InputSize
    stride: int = Field(default=1, ge=1, le=1024)
    # Whether the export was verified for non-square inputs whose sides are multiples of the stride.
    rectangles: bool = False
    parameters: int = Field(ge=0, le=MOST_PARAMETERS)
    flops: int | None = Field(default=None, ge=0, le=MOST_FLOPS)
    layout: str = Field(default="", max_length=64)
    keypoints: list[Annotated[int, Field(ge=0, le=1000)]] | None = Field(
        default=None, min_length=2, max_length=2
    )
    scale: int | None = Field(default=None, ge=1, le=16)
    mean: list[float] | None = Field(default=None, max_length=16)
    std: list[float] | None = Field(default=None, max_length=16)
    # Preprocessing of a classifier's input; see `workers.vision.letterbox.fill_cropped`.
    crop_pct: float | None = Field(default=None, ge=LEAST_CROP, le=1)
    stretch: bool | None = None
    # The output that is used, if the graph has several.
    output: ReadOutput | None = None
    # Resize filter (default: bilinear) and channel order (default: "rgb").
    resample: Filter | None = None
    order: Literal["rgb", "bgr"] | None = None
    # Which of these values are defaults because the upload does not state them.
    assumed: list[Literal["mean", "std", "crop_pct"]] | None = Field(default=None, max_length=3)
    architecture: dict[str, Any] = Field(default_factory=dict)
    difference: float = Field(ge=0)
    tolerance: float = Field(ge=0)
    files: dict[str, FileFacts]
    converter: int = Field(ge=1)


@dataclass(frozen=True)
class Bundle:
    """A converted model, as a family's `convert` returns it.

    Attributes:
        facts: the fields of ModelFacts, except `difference`, `tolerance`, `files` and `converter`.
        tensors: torch tensors by parameter name of the family's own module.
        onnx: the same model for ONNX Runtime.
        difference: the largest difference between the outputs of both forms. `tolerance` is its limit.
        choices: possible interpretations of an uploaded graph's outputs, the one in use first. The owner
            of the model confirms or changes it.
        is_certain: whether no other choice is as likely as the first.
    """

    facts: dict[str, Any]
    tensors: Mapping[str, Any]
    onnx: bytes
    difference: float
    tolerance: float
    choices: tuple[Choice, ...] = ()
    is_certain: bool = True


def write(bundle: Bundle, folder: Path) -> str:
    """Write the three files into a folder and return the model's SHA-256 digest. Raises Refused."""
    from safetensors.torch import save_file

    if not bundle.difference <= bundle.tolerance:
        raise Refused(
            f"The converted model does not give the same results as the original: they differ by "
            f"{bundle.difference:.3g}, and the limit is {bundle.tolerance:.3g}.",
            code="difference",
        )
    # safetensors rejects tensors that share memory or are not contiguous, so each one is copied.
    save_file({name: t.detach().contiguous().clone() for name, t in bundle.tensors.items()}, folder / WEIGHTS)
    (folder / GRAPH).write_bytes(bundle.onnx)
    facts = {
        **bundle.facts,
        "difference": bundle.difference,
        "tolerance": bundle.tolerance,
        "files": {name: _describe(folder / name) for name in (WEIGHTS, GRAPH)},
        "converter": CONVERTER,
    }
    try:
        checked = ModelFacts.model_validate(facts)
    except ValidationError as error:
        text = f"The model's metadata is not valid: {_first(error)}"
        raise Refused(text, code="facts") from error
    known = {name: value for name, value in checked.model_dump(mode="json").items() if value is not None}
    written = json.dumps(known, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    if len(written) > MOST_FACTS_BYTES:
        raise Refused(
            f"The model's metadata, with its class names, is larger than {MOST_FACTS_BYTES >> 20} MiB.",
            code="facts",
        )
    (folder / FACTS).write_bytes(written)
    return hashlib.sha256(written).hexdigest()


def verify(folder: Path) -> tuple[str, ModelFacts]:
    """Return digest and facts of a converted model, after checking every byte of it.

    Safe for untrusted folders: it follows no links, unpickles nothing and runs nothing.

    Raises:
        BundleError: a file is missing, too large, not a regular file, or does not match model.json.
    """
    names = sorted(os.listdir(folder))
    if names != sorted((FACTS, WEIGHTS, GRAPH)):
        raise BundleError(f"The folder must contain the three files of a model, but has {names[:8]}.")
    raw = read_plain(folder / FACTS, MOST_FACTS_BYTES)
    facts = parse_facts(raw)
    for name, wanted in facts.files.items():
        if _digest_plain(folder / name) != (wanted.sha256, wanted.size):
            raise BundleError(f"{name} does not match its digest and size in model.json.")
    _check_formats(folder)
    return hashlib.sha256(raw).hexdigest(), facts


def parse_facts(raw: bytes) -> ModelFacts:
    """Read model.json. Raises BundleError."""
    try:
        facts = ModelFacts.model_validate_json(raw)
    except ValidationError as error:
        raise BundleError(f"model.json is not valid: {_first(error)}") from error
    if facts.files.keys() != {WEIGHTS, GRAPH}:
        raise BundleError(f"model.json must list the files {WEIGHTS} and {GRAPH}.")
    return facts


class FolderModel:
    """A converted model in a folder: implements `workers.plugin.Model`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _raw(self) -> bytes:
        return (self.folder / FACTS).read_bytes()

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(self._raw).hexdigest()

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = json.loads(self._raw)
        return facts

    def read(self, name: str, /) -> bytes:
        """Return one of its files. Raises OSError."""
        if name not in (WEIGHTS, GRAPH):
            raise FileNotFoundError(name)
        return (self.folder / name).read_bytes()


def read_plain(path: Path, most: int) -> bytes:
    """Return the bytes of an untrusted file. Raises BundleError for links, and above `most` bytes."""
    with os.fdopen(_open_plain(path), "rb") as stream:
        raw = stream.read(most + 1)
    if len(raw) > most:
        raise BundleError(f"{path.name} is too large.")
    return raw


def _describe(path: Path) -> dict[str, Any]:
    digest, size = _digest_plain(path)
    return {"sha256": digest, "size": size}


def _open_plain(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"{path.name} is not a regular file.") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or not 1 <= status.st_size <= MOST_FILE_BYTES:
        os.close(descriptor)
        raise BundleError(f"{path.name} is not a regular file, is empty, or is too large.")
    return descriptor


def _digest_plain(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with os.fdopen(_open_plain(path), "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _check_formats(folder: Path) -> None:
    try:
        with open(folder / WEIGHTS, "rb") as stream:
            read_safetensors(ByteSource(stream))
        with open(folder / GRAPH, "rb") as stream:
            check_graph(ByteSource(stream))
    except (FormatError, Refused) as error:
        raise BundleError(f"A file of the model is damaged: {error}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
