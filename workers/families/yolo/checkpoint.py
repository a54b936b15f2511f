"""Read tensors, class names and image size of a YOLO checkpoint, without running its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workers.checkpoints.class_names import clean_names, order_names
from workers.checkpoints.pickle_reader import Stub
from workers.checkpoints.tensors import TensorRecord
from workers.checkpoints.upload import Refused, WeightsUpload

MOST_MODULES = 20_000
MOST_DEPTH = 40
# Module of the models of the YOLOv5 repository.
_YOLOV5 = "models.yolo"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint. `model` is the network object of the file.

    `is_yolov5`: it is of the YOLOv5 repository. `averaged`: key of the averaged copy, if it is one of two.
    """

    model: Stub
    tree: dict[Any, Any]
    is_yolov5: bool
    averaged: str | None = None

    def tensors(self) -> dict[str, TensorRecord]:
        """Return the tensors of the state dict. Raises Refused."""
        return dict(_walk(self.model))

    def classes(self, count: int) -> list[str]:
        """Return the `count` class names. Raises Refused if their number differs."""
        found = self.model.get("names")
        if found is None:
            return [str(index) for index in range(count)]
        if isinstance(found, dict):
            found = [found.get(index) for index in range(len(found))]
        if not isinstance(found, (list, tuple)) or len(found) != count:
            raise Refused(
                f"The number of its class names is not its number of classes, {count}.", code="classes"
            )
        try:
            names = clean_names(order_names(list(found)))
        except ValueError as error:
            raise Refused("Its class names are not strings.", code="classes") from error
        return [name or str(index) for index, name in enumerate(names)]

    def side(self, default: int, stride: int) -> int:
        """Return the training image size in pixels, rounded up to a multiple of `stride`."""
        for settings in (self.tree.get("train_args"), self.model.get("args"), self.tree.get("opt")):
            values = settings.state if isinstance(settings, Stub) else settings
            found = values.get("imgsz") if isinstance(values, dict) else None
            if isinstance(found, (list, tuple)) and found:
                found = max((side for side in found if type(side) is int), default=None)
            if type(found) is int and 32 <= found <= 2048:
                return -(-found // stride) * stride
        return default


def find_checkpoint(upload: WeightsUpload) -> Checkpoint | None:
    """Return the YOLO checkpoint in an upload, or None if it is something else."""
    tree = upload.tree
    if isinstance(tree, Stub):
        tree = {"model": tree}
    if not isinstance(tree, dict):
        return None
    for key in ("ema", "model"):
        model = tree.get(key)
        if isinstance(model, Stub):
            module = model.name.module
            if module.startswith("ultralytics.") or module == _YOLOV5:
                averaged = key if key == "ema" and isinstance(tree.get("model"), Stub) else None
                return Checkpoint(model, tree, module == _YOLOV5, averaged)
    return None


def _walk(model: Stub) -> Iterator[tuple[str, TensorRecord]]:
    """Yield the parameters and buffers of a module and its children, by their state dict names."""
    waiting: list[tuple[str, Any, int]] = [("", model, 0)]
    seen = 0
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += 1
        if seen > MOST_MODULES or depth > MOST_DEPTH:
            raise Refused(
                f"Its network has more than {MOST_MODULES:,} modules, or {MOST_DEPTH} levels of nesting.",
                code="too_large",
            )
        hidden = _texts(module.get("_non_persistent_buffers_set"))
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _entries(module, kind):
                if isinstance(tensor, TensorRecord) and not (kind == "_buffers" and name in hidden):
                    yield f"{prefix}{name}", tensor
        waiting += [
            (f"{prefix}{name}.", inner, depth + 1)
            for name, inner in _entries(module, "_modules")
            if isinstance(inner, Stub)
        ]


def _entries(module: Stub, kind: str) -> Iterator[tuple[str, Any]]:
    found = module.get(kind)
    for name, value in found.items() if isinstance(found, dict) else ():
        if not isinstance(name, str) or len(name) > 100:
            raise Refused("A layer of its network has an invalid name.", code="architecture")
        yield name, value


def _texts(found: Any) -> frozenset[str]:
    """Return the strings of a set. Before pickle protocol 4, sets are objects with a list as argument."""
    if isinstance(found, Stub):
        found = found.args[0] if found.args else ()
    values = found if isinstance(found, (set, frozenset, list, tuple)) and len(found) <= 1000 else ()
    return frozenset(value for value in values if isinstance(value, str))
