"""What is said of an ONNX model beside its graph: by its metadata, or by the seller's config.json."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers.weights.bundle import LEAST_CROP
from workers.weights.class_names import clean_names
from workers.weights.upload import Refused

_MOST_LITERAL = 1_000_000
_LITERALS = ("names", "imgsz", "kpt_shape", "stride")


class Wishes(BaseModel):
    """`names` by class, `task` and `layout` as model.json has them, `size` of pictures where any will do.

    `mean` and `std` are of red, green and blue from 0 to 1. Of classifiers, `crop_pct` is the side of their
    square divided by that to which a picture's shorter side is brought before the middle is cut out;
    `stretch` says that the whole picture is squeezed into it. `takes` and `gives` are for models that make
    pictures: how their pixels are written, "unit" 0 to 1, "signed" -1 to 1, "byte" 0 to 255.
    Of detectors, `takes` is the same. `order` is that of colors, `output` the name of what is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    names: tuple[str, ...] = Field(default=(), max_length=50_000)
    task: Literal["detect", "segment", "pose", "obb", "classify", "image"] | None = None
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
        if not isinstance(names, Mapping):
            return names
        numbered = {
            int(number) if isinstance(number, str) else number: name for number, name in names.items()
        }
        if set(numbered) != set(range(len(numbered))):
            raise ValueError("its classes are not numbered from 0 without a gap")
        return tuple(numbered[number] for number in range(len(numbered)))

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

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.stretch and self.crop_pct not in (None, 1):
            raise ValueError("a picture is squeezed into the square, or its middle cut out, not both")
        return self


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
    """`id2label` is what Hugging Face calls the names; it has words of its own for the rest, too."""
    aliases = {
        "id2label": "names",
        "image_size": "size",
        "image_mean": "mean",
        "image_std": "std",
        "kpt_shape": "keypoints",
    }
    read = {aliases.get(name, name): value for name, value in config.items() if value is not None}
    read = {**_read_processor(config), **read, **_read_crop_size(config)}
    return {name: value for name, value in read.items() if name in Wishes.model_fields}


def _read_processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read of a preprocessor_config.json whether the middle is cut out; those that do not say so squeeze."""
    cuts, size = config.get("do_center_crop"), config.get("size")
    if cuts is None and config.get("crop_pct") is None and config.get("do_resize") is True:
        cuts = isinstance(size, Mapping) and "shortest_edge" in size
    if cuts is None:
        return {}
    return {"stretch": not cuts if isinstance(cuts, bool) else cuts}


def _read_crop_size(config: Mapping[str, Any]) -> dict[str, Any]:
    """There, `size` may be that before the middle is cut out: `crop_size` is then the model's."""
    side, before = _longest(config.get("crop_size")), _longest(config.get("size"))
    if config.get("do_center_crop") is not True or type(side) is not int:
        return {}
    if config.get("crop_pct") is not None or type(before) is not int or not 0 < side <= before:
        return {"size": side}
    return {"size": side, "crop_pct": side / before}


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
        "task": metadata.get("task") if metadata.get("task") in _TASKS else None,
    }
    said = {name: value for name, value in known.items() if value is not None}
    return {**said, "is_ultralytics": True} if "names" in said and "task" in said else said


_TASKS = ("detect", "segment", "pose", "obb", "classify")


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
