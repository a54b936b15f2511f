"""Read the configuration of an uploaded model from its metadata and the seller's config.json."""

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
    """Configuration of a model, as its metadata and config.json state it.

    Attributes:
        names: class names.
        task, layout: as in model.json.
        output: name of the graph output to use.
        order: channel order of the input.
        size: side of the input in pixels, if the graph takes any size.
        mean, std: for red, green and blue from 0 to 1.
        crop_pct: of classifiers, the square's side divided by the shorter side after resizing.
        stretch: of classifiers, whether the image is stretched to the square instead.
        resample: Pillow's filter for resizing.
        scores: the function that turns outputs into probabilities.
        count: stated number of classes.
        unclear: error message about preprocessing that is not supported.
        takes, gives: value range of input and output pixels: "unit" 0 to 1, "signed" -1 to 1, "byte" 0 to
            255. `gives` is for models that return images.
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
        """Accept 224, [224, 224], {"height": 224, "width": 224} and {"shortest_edge": 224}."""
        return _longest(size)

    @field_validator("names", mode="before")
    @classmethod
    def _order(cls, names: Any) -> Any:
        """Accept a list, or names by number: {"0": "cat"}."""
        return tuple(order_names(names))

    @field_validator("names")
    @classmethod
    def _clean(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name or "unnamed" for name in clean_names(names))

    @field_validator("keypoints")
    @classmethod
    def _bound(cls, keypoints: tuple[int, int] | None) -> tuple[int, int] | None:
        if keypoints and not (1 <= keypoints[0] <= 1000 and keypoints[1] in (2, 3)):
            raise ValueError("it must be 1 to 1000 keypoints with 2 or 3 values each")
        return keypoints

    @field_validator("std")
    @classmethod
    def _divide(cls, std: list[float] | None) -> list[float] | None:
        if std and min(std) <= 0:
            raise ValueError("its values must be above 0")
        return std


def read_wishes(config: Mapping[str, Any] | None, metadata: Mapping[str, str]) -> Wishes:
    """Merge the file's metadata and the seller's config.json, which has priority. Raises Refused."""
    try:
        return Wishes.model_validate({**_read_metadata(metadata), **_read_config(config or {})})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "all values"
        text = f"The model’s configuration is not valid: {where}: {first['msg'][:200]}."
        raise Refused(text, code="config") from error


def _read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.json, by this project's keys and those of Hugging Face and timm."""
    config = merge(config)
    if config.get("stretch") is True and config.get("crop_pct") not in (None, 1):
        text = "stretch and crop_pct exclude each other"
        raise Refused(f"The model’s configuration is not valid: {text}.", code="config")
    own = {name: value for name, value in config.items() if name in _OWN and value is not None}
    # The meaning of these keys depends on the config's origin.
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


# Fields that a config.json may set directly.
_OWN = Wishes.model_fields.keys() - {"names", "count", "unclear", "is_ultralytics"}


def _read_classes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings about classes."""
    fields: dict[str, Any] = {}
    try:
        names = find_names(config)
    except ValueError as error:
        text = f"The model’s configuration is not valid: label2id: {error}."
        raise Refused(text, code="config") from error
    if names is not None:
        fields["names"] = names
    problem = config.get("problem_type")
    if not isinstance(problem, str | None) or problem not in _SCORES:
        text = (
            f"The problem_type of the config.json is {show_value(problem)}. Only classifiers are supported."
        )
        return {**fields, "unclear": text}
    count = config.get("num_labels", config.get("num_classes"))
    more = {"scores": _SCORES[problem], "count": count if type(count) is int else None}
    return {**fields, **{name: value for name, value in more.items() if value is not None}}


def _longest(size: Any) -> Any:
    sides = list(size.values()) if isinstance(size, Mapping) else size
    if not isinstance(sides, list):
        return size
    return max((side for side in sides if type(side) is int), default=None)


def _read_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in a graph's metadata. Python literals of Ultralytics are parsed, not evaluated."""
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
    stated = {name: value for name, value in known.items() if value is not None}
    return {**stated, "is_ultralytics": True} if "names" in stated and "task" in stated else stated


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
