"""A converted model: three files in a folder, of which model.json knows the digests of the others."""

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
# Of one picture; the largest networks there are need a hundredth of it.
MOST_FLOPS = 10**16
# The family that keeps graphs as they were uploaded, where all others rebuild a network.
GRAPHS = "onnx"
# The least part of a picture's shorter side that a classifier looks at.
LEAST_CROP = 0.01
# Pillow's names of its filters, in the order of their numbers.
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


class BundleError(Exception):
    """A folder does not hold a converted model as this code writes them."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSize(_Strict):
    """Of the picture that the model takes, in pixels. 0 is any size."""

    width: int = Field(ge=0, le=8192)
    height: int = Field(ge=0, le=8192)
    channels: int = Field(ge=1, le=1024)


class FileFacts(_Strict):
    """What one of the files must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=1, le=MOST_FILE_BYTES)


class Choice(_Strict):
    """A way in which the outputs of an uploaded graph may be read."""

    task: str = Field(pattern=tasks.PATTERN)
    layout: str = Field(default="", max_length=64)
    classes: int = Field(ge=0, le=10**6)
    # Whether it is the one that the file alone tells, whatever its owner said or chose.
    is_recognised: bool = False


def _check_shown(text: str) -> str:
    """Names reach pages, files and the database, which takes no NUL and no halves of characters."""
    if not text.isprintable():
        raise ValueError("it cannot be shown")
    return text


def _check_together(names: list[str]) -> list[str]:
    if sum(map(len, names)) > MOST_NAMES:
        raise ValueError(f"they have more than {MOST_NAMES} characters together")
    return names


Shown = Annotated[str, Field(min_length=1, max_length=MOST_NAME), AfterValidator(_check_shown)]


Classes = Annotated[list[Shown], Field(max_length=50_000), AfterValidator(_check_together)]


class ReadOutput(_Strict):
    """The output of a graph that is read, of how many."""

    name: Shown
    count: int = Field(ge=2)


class ModelFacts(_Strict):
    """What model.json says. Families may add facts of their own under `architecture` alone."""

    family: str = Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")
    task: str = Field(pattern=tasks.PATTERN)
    title: Shown
    # The wrapper of the averaged copy that these weights are, of a file that may hold others.
    averaged: Annotated[str, Field(max_length=MOST_NAME), AfterValidator(_check_shown)] | None = None
    classes: Classes = Field(default_factory=list)
    input: InputSize
    stride: int = Field(default=1, ge=1, le=1024)
    # Whether it was proved for inputs that are no squares, of multiples of the stride.
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
    # How a picture becomes a classifier's square; see `workers.vision.letterbox.fill_cropped`.
    crop_pct: float | None = Field(default=None, ge=LEAST_CROP, le=1)
    stretch: bool | None = None
    # Which of several outputs of a graph is read.
    output: ReadOutput | None = None
    # The filter that it is resized by, bilinear otherwise, and the order of its colors, "rgb" otherwise.
    resample: Filter | None = None
    order: Literal["rgb", "bgr"] | None = None
    # Those of the four that nobody told.
    assumed: list[Literal["mean", "std", "crop_pct"]] | None = Field(default=None, max_length=3)
    architecture: dict[str, Any] = Field(default_factory=dict)
    difference: float = Field(ge=0)
    tolerance: float = Field(ge=0)
    files: dict[str, FileFacts]
    converter: int = Field(ge=1)


@dataclass(frozen=True)
class Bundle:
    """A model as a family's `convert` hands it back.

    `facts` are those of ModelFacts but for `difference`, `tolerance`, `files` and `converter`. `tensors` are
    torch tensors by the names that the family's own module gives them. `onnx` is the same model for ONNX
    Runtime. `difference` is how far the outputs of both lay apart at most, `tolerance` what is allowed.
    `choices` are the ways in which the outputs of a graph may be read that somebody else built, the one that
    was taken first; `is_certain` says whether no other is as likely. Its owner is asked.
    """

    facts: dict[str, Any]
    tensors: Mapping[str, Any]
    onnx: bytes
    difference: float
    tolerance: float
    choices: tuple[Choice, ...] = ()
    is_certain: bool = True


def write(bundle: Bundle, folder: Path) -> str:
    """Write the three files into a folder and return the model's digest. Raises Refused."""
    from safetensors.torch import save_file

    if not bundle.difference <= bundle.tolerance:
        raise Refused(
            f"The converted model does not give the same results: they differ by {bundle.difference:.3g}, "
            f"and at most {bundle.tolerance:.3g} is allowed.",
            code="difference",
        )
    # Tensors that share their memory, or lie in it in another order, are written each for itself.
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
        text = f"What the model says of itself cannot be used: {_first(error)}"
        raise Refused(text, code="facts") from error
    known = {name: value for name, value in checked.model_dump(mode="json").items() if value is not None}
    written = json.dumps(known, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    if len(written) > MOST_FACTS_BYTES:
        raise Refused(
            "What it says of itself, its classes’ names too, is longer than it may be.", code="facts"
        )
    (folder / FACTS).write_bytes(written)
    return hashlib.sha256(written).hexdigest()


def verify(folder: Path) -> tuple[str, ModelFacts]:
    """Return digest and facts of a converted model after looking at every byte of it.

    Whoever wrote it need not be trusted: nothing is followed, unpickled or run.

    Raises:
        BundleError: a file is missing, too large, no plain file, or not what model.json says of it.
    """
    names = sorted(os.listdir(folder))
    if names != sorted((FACTS, WEIGHTS, GRAPH)):
        raise BundleError(f"The folder does not hold the three files of a model, but {names[:8]}.")
    raw = read_plain(folder / FACTS, MOST_FACTS_BYTES)
    facts = parse_facts(raw)
    for name, wanted in facts.files.items():
        if _digest_plain(folder / name) != (wanted.sha256, wanted.size):
            raise BundleError(f"{name} is not the file that model.json speaks of.")
    _check_formats(folder)
    return hashlib.sha256(raw).hexdigest(), facts


def parse_facts(raw: bytes) -> ModelFacts:
    """Read model.json. Raises BundleError."""
    try:
        facts = ModelFacts.model_validate_json(raw)
    except ValidationError as error:
        raise BundleError(f"model.json cannot be used: {_first(error)}") from error
    if facts.files.keys() != {WEIGHTS, GRAPH}:
        raise BundleError("model.json does not name its two files.")
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
    """Return a file that may be anything, for example a link. Raises BundleError."""
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
        raise BundleError(f"{path.name} is no plain file.") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not 1 <= found.st_size <= MOST_FILE_BYTES:
        os.close(descriptor)
        raise BundleError(f"{path.name} is no plain file, or too large.")
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
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
