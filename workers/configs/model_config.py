"""What is said of an ONNX model beside its graph: by its metadata, or by the seller's config.json."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workers.bundle import LEAST_CROP, Filter
from workers.checkpoints.class_names import clean_names, find_names, order_names
from workers.checkpoints.upload import Refused
from workers.configs.image_processor import merge, read_processor
from workers.configs.values import show_value
from workers.tasks import TASKS, TaskKey

_MOST_LITERAL = 1_000_000
_LITERALS = ("names", "imgsz", "kpt_shape", "stride")
_SCORES = {None: None, "single_label_classification": "softmax", "multi_label_classification": "sigmoid"}
# Ultralytics has no models that make pictures.
_SAID = tuple(task.key for task in TASKS.values() if task.has_classes)


class Wishes(BaseModel):
    """`names` by class, `task` and `layout` as model.json has them, `size` of pictures where any will do.

    `mean` and `std` are of red, green and blue from 0 to 1. Of classifiers, `crop_pct` is the side of their
    square divided by that to which a picture's shorter side is brought before the middle is cut out;
    `stretch` says that the picture is squeezed before instead, `resample` by which of Pillow's filters.
    `scores` is what makes shares of the outputs, `count` how many classes there are said to be. `unclear` is
    a sentence about what is said of images and cannot be followed. `takes` and `gives` are for models that
    make pictures: how their pixels are written, "unit" 0 to 1, "signed" -1 to 1, "byte" 0 to 255. Of
    detectors, `takes` is the same. `order` is that of colors, `output` the name of what is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    names: tuple[str, ...] = Field(default=(), max_length=50_000)
    task: TaskKey | None = None
    layout: (
        Literal["anchors", "yolov5", "yolox", "yolox-decoded", "end-to-end"]
        | Literal["labels", "semantic", "logits", "sigmoid"]
        | None
    ) = None
    output: str | None = Field(default=None, max_length=1000)
    order: Literal["rgb", "bgr"] | None = None
    size: int | None = Field(default=None, ge=32, le=2048)
    stride: int = Field(default=1, ge=1, le=1024)
    keypoints: tuple[int, int] | None = None
    mean: list[float] | None = Field(default=None, min_length=1, max_length=3)
    std: list[float] | None = Field(default=None, min_length=1, max_length=3)
    crop_pct: float | None = Field(default=None, ge=LEAST_CROP, le=1)
    stretch: bool | None = Field(default=None, strict=True)
    resample: Filter | None = None
    scores: Literal["softmax", "sigmoid"] | None = None
    count: int | None = None
    unclear: str = ""
    takes: Literal["unit", "signed", "byte"] | None = None
    gives: Literal["unit", "signed", "byte"] | None = None
    is_ultralytics: bool = False

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, size: Any) -> Any:
        """Hugging Face writes 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}."""
        return _longest(size)

    @field_validator("names", mode="before")
    @classmethod
    def _order(cls, names: Any) -> Any:
        """Names come as a list, or by number: {"0": "cat"}."""
        return tuple(order_names(names))

    @field_validator("names")
    @classmethod
    def _clean(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name or "unnamed" for name in clean_names(names))

    @field_validator("keypoints")
    @classmethod
    def _bound(cls, keypoints: tuple[int, int] | None) -> tuple[int, int] | None:
        if keypoints and not (1 <= keypoints[0] <= 1000 and keypoints[1] in (2, 3)):
            raise ValueError("its keypoints are not up to 1000 of 2 or 3 numbers")
        return keypoints

    @field_validator("std")
    @classmethod
    def _divide(cls, std: list[float] | None) -> list[float] | None:
        if std and min(std) <= 0:
            raise ValueError("its deviations are not above 0")
        return std


def read_wishes(config: Mapping[str, Any] | None, metadata: Mapping[str, str]) -> Wishes:
    """Put together what the file and the seller say; the seller's word counts. Raises Refused."""
    try:
        return Wishes.model_validate({**_read_metadata(metadata), **_read_config(config or {})})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, found["loc"])) or "the whole"
        text = f"What is said of it cannot be used: {where}: {found['msg'][:200]}."
        raise Refused(text, code="config") from error


def _read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said in our own words and in those of Hugging Face and timm, whose images have
    others."""
    config = merge(config)
    if config.get("stretch") is True and config.get("crop_pct") not in (None, 1):
        text = "a picture is squeezed into the square, or its middle cut out, not both"
        raise Refused(f"What is said of it cannot be used: {text}.", code="config")
    own = {name: value for name, value in config.items() if name in _OWN and value is not None}
    # These have other meanings there, depending on what else is said.
    shared: dict[str, Any] = {name: own.pop(name) for name in ("size", "crop_pct") if name in own}
    own.pop("resample", None)
    if config.get("image_size") is not None:
        shared.setdefault("size", config["image_size"])
    read: dict[str, Any] = {
        **shared,
        **read_processor(config),
        **_read_classes(config),
        **own,
    }
    if config.get("kpt_shape") is not None:
        read["keypoints"] = config["kpt_shape"]
    return read


# Those that a config.json may hold; the others are made of what it holds.
_OWN = Wishes.model_fields.keys() - {"names", "count", "unclear", "is_ultralytics"}


def _read_classes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a model's classes."""
    told: dict[str, Any] = {}
    try:
        names = find_names(config)
    except ValueError as error:
        raise Refused(f"What is said of it cannot be used: label2id: {error}.", code="config") from error
    if names is not None:
        told["names"] = names
    problem = config.get("problem_type")
    if not isinstance(problem, str | None) or problem not in _SCORES:
        text = f"The problem_type of the config.json is {show_value(problem)}: only classifiers are read."
        return {**told, "unclear": text}
    count = config.get("num_labels", config.get("num_classes"))
    said = {"scores": _SCORES[problem], "count": count if type(count) is int else None}
    return {**told, **{name: value for name, value in said.items() if value is not None}}


def _longest(size: Any) -> Any:
    sides = list(size.values()) if isinstance(size, Mapping) else size
    if not isinstance(sides, list):
        return size
    return max((side for side in sides if type(side) is int), default=None)


def _read_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Ultralytics writes Python literals: they are parsed, never evaluated, and only where they are short."""
    read: dict[str, Any] = {}
    for name in _LITERALS:
        if name in metadata and len(metadata[name]) <= _MOST_LITERAL:
            read[name] = _parse(metadata[name])
    sides = read.pop("imgsz", None)
    known = {
        "names": read.get("names"),
        "keypoints": read.get("kpt_shape"),
        "stride": read.get("stride"),
        "size": max(sides)
        if isinstance(sides, list) and sides and all(type(s) is int for s in sides)
        else None,
        "task": task if (task := metadata.get("task")) in _SAID else None,
    }
    said = {name: value for name, value in known.items() if value is not None}
    return {**said, "is_ultralytics": True} if "names" in said and "task" in said else said


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
