"""Ultralytics checkpoints rebuilt by Ultralytics' own code from a checked description, and exported.

Nothing of the file but its numbers and that description is used. Runs in the sandbox; `rebuild` also on
workers with a GPU, from what was converted.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from PIL import Image

from workers.bundle import Bundle
from workers.checkpoints.tensors import Tensors
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.export import export
from workers.families.yolo.checkpoint import Checkpoint, find_checkpoint
from workers.families.yolo.ultralytics_yaml import HEADS, check_yaml
from workers.tasks import TASKS

MOST_NETWORK_PARAMETERS = 150_000_000
LEAST_STRIDE = 32
_MODELS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
}

# What its own transforms do with a picture: the middle square, from 0 to 1.
_CLASSIFIED = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "crop_pct": 1.0, "assumed": []}


def recognise(upload: WeightsUpload) -> str | None:
    """Say what the checkpoint is («YOLO11 detector»), or None where it is none of Ultralytics'."""
    checkpoint = find_checkpoint(upload)
    if checkpoint is None or checkpoint.is_yolov5:
        return None
    description = checkpoint.model.get("yaml")
    head = description.get("head") if isinstance(description, dict) else None
    last = head[-1] if isinstance(head, list) and head else None
    name = last[2] if isinstance(last, (list, tuple)) and len(last) == 4 and isinstance(last[2], str) else ""
    noun = TASKS[HEADS[name]].noun if name in HEADS else "model"
    return f"{_generation(description)} {noun}"


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild, export and compare. Raises Refused."""
    checkpoint = _find(upload)
    architecture, tensors = prepare(upload)
    description, task = architecture["yaml"], task_of(architecture)
    classes = checkpoint.classes(description["nc"])
    model = rebuild({"architecture": architecture}, tensors)
    stride = int(model.stride.max()) if task == "classify" else input_stride(model.stride)
    side = checkpoint.side(TASKS[task].usual_side, stride)
    facts = {
        "family": "yolo",
        "averaged": checkpoint.averaged,
        "task": task,
        "title": recognise(upload),
        "classes": classes,
        "input": {"width": side, "height": side, "channels": description["channels"]},
        "stride": stride,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layout": _layout_of(task, architecture),
        "keypoints": description["kpt_shape"] if task == "pose" else None,
        "architecture": architecture,
        **(_CLASSIFIED if task == "classify" else {}),
    }
    return export(model, facts, tensors)


def prepare(upload: WeightsUpload) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how to rebuild the network, checked, and its tensors in 32 bits. Raises Refused."""
    checkpoint = _find(upload)
    records = checkpoint.tensors()
    architecture = {
        "yaml": check_yaml(checkpoint.model.get("yaml")),
        "fused": not any(name.endswith(".bn.weight") for name in records),
        "end2end": any(".one2one_cv2." in name for name in records),
    }
    check_size(architecture, records)
    return architecture, as_floats(Tensors(upload.path, records))


def task_of(architecture: Mapping[str, Any]) -> str:
    """Return what a network of this description does."""
    return HEADS[architecture["yaml"]["head"][-1][2]]


def input_stride(strides: Any) -> int:
    """Return what the sides of a detector's inputs are multiples of, by its head's strides: 32 at least.

    A head that reads fine features alone may still be fed by coarser ones.
    """
    return max(LEAST_STRIDE, int(strides.max()))


def check_size(architecture: Mapping[str, Any], records: Mapping[str, Any]) -> None:
    """Build the network without memory for its numbers, and hold it against the file's. Raises Refused."""
    # Before: its classes have tensors of their own, which are made when it is imported.
    quiet_ultralytics()
    with without_memory():
        layers = _build_layers(architecture["yaml"])
    if sum(parameter.numel() for parameter in layers.parameters()) > MOST_NETWORK_PARAMETERS:
        raise Refused(f"Its network has more than {MOST_NETWORK_PARAMETERS:,} parameters.", code="too_large")
    if not architecture["fused"]:
        wanted = {f"model.{name}": tuple(tensor.shape) for name, tensor in layers.state_dict().items()}
        check_shapes(wanted, records)


def check_shapes(wanted: Mapping[str, tuple[int, ...]], records: Mapping[str, Any]) -> None:
    """Raise Refused unless the file has exactly these tensors.

    Args:
        records: by name what has a shape: a record of a tensor, or the tensor.
    """
    missing, extra = sorted(wanted.keys() - records.keys()), sorted(records.keys() - wanted.keys())
    if missing or extra:
        first = f"{missing[0]} is missing" if missing else f"{extra[0]} is not known"
        text = f"Its tensors are not those of the network it describes: {first[:200]}."
        raise Refused(text, code="tensors")
    for name, shape in wanted.items():
        found = records[name].shape
        if found != shape:
            text = f"Its tensor {name} has the shape {list(found)}, its network needs {list(shape)}."
            raise Refused(text, code="tensors")


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return the network as a torch module on the CPU, its batch normalisation folded in, ready to run.

    Its input is (n, channels, height, width), RGB from 0 to 1; its output has the layout that `facts` name.

    Args:
        facts: of which only `architecture` is read.
        tensors: the state dict, 32-bit.
    """
    architecture = facts["architecture"]
    model = _build(architecture["yaml"])
    head = model.model[-1]
    head.end2end = architecture["end2end"]
    if architecture["fused"]:
        model.eval().fuse(verbose=False)
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise Refused("Its tensors are not those of the network it describes.", code="tensors") from error
    model.eval().requires_grad_(False)
    if not architecture["fused"]:
        model.fuse(verbose=False)
    head.export, head.format, head.dynamic, head.shape = True, "onnx", False, None
    return model


def rebuild_converted(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """As `rebuild`, of facts that nobody has looked at: their description is checked as an upload's is."""
    found = facts["architecture"]
    architecture = {
        "yaml": check_yaml(found.get("yaml")),
        "fused": not any(name.endswith(".bn.weight") for name in tensors),
        "end2end": any(".one2one_cv2." in name for name in tensors),
    }
    check_size(architecture, tensors)
    return rebuild({"architecture": architecture}, tensors)


def without_memory() -> AbstractContextManager[Any]:
    """Give new tensors a shape but no numbers.

    `torch.device("meta")` would do so for all functions; for some it imports seconds' worth of modules.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Shapes(TorchFunctionMode):  # type: ignore[misc]  # torch's is untyped
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            where = {"device": "meta"} if func is torch.empty else {}
            return func(*args, **{**(kwargs or {}), **where})

    mode: AbstractContextManager[Any] = Shapes()
    return mode


@contextmanager
def refusing_misfits() -> Iterator[None]:
    """Layers that do not fit each other fail in Ultralytics in as many ways as there are layers."""
    try:
        yield
    except (MemoryError, Refused):
        raise
    except Exception as error:
        raise Refused("The layers of its network do not fit each other.", code="architecture") from error


def quiet_ultralytics() -> None:
    """Have Ultralytics ask nobody, write nothing that stays, and leave Pillow alone when it is imported."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    if "ultralytics.nn.tasks" in sys.modules:
        return
    # It puts a function of its own in the place of Pillow's, which would install packages for some pictures.
    opens = Image.open
    try:
        with _folder_of_settings():
            import ultralytics.nn.tasks  # noqa: F401
    finally:
        Image.open = opens


def as_floats(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors in 32 bits, but for those that count."""
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


def _find(upload: WeightsUpload) -> Checkpoint:
    checkpoint = find_checkpoint(upload)
    if checkpoint is None or checkpoint.is_yolov5:
        raise Refused("This is no checkpoint of Ultralytics.", code="unknown")
    return checkpoint


def _layout_of(task: str, architecture: Mapping[str, Any]) -> str:
    if task == "classify":
        return "probabilities"
    return "end-to-end" if architecture["end2end"] else "anchors"


def _build(description: dict[str, Any]) -> Any:
    """Build the whole model of a checked description, its numbers random."""
    quiet_ultralytics()
    from ultralytics.nn import tasks

    task = task_of({"yaml": description})
    make = getattr(tasks, _MODELS[task])
    with refusing_misfits():
        return make(copy.deepcopy(description), ch=description["channels"], verbose=False)


def _build_layers(description: dict[str, Any]) -> Any:
    quiet_ultralytics()
    from ultralytics.nn.tasks import parse_model

    with refusing_misfits():
        return parse_model(copy.deepcopy(description), ch=description["channels"], verbose=False)[0]


@contextmanager
def _folder_of_settings() -> Iterator[None]:
    """Ultralytics writes its settings when it is imported: into the folder it is given, or one that goes."""
    if "YOLO_CONFIG_DIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ipau-ultralytics-") as folder:
        os.environ["YOLO_CONFIG_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["YOLO_CONFIG_DIR"]


def _generation(description: Any) -> str:
    """Return «YOLO11», read from the name of the description's file, or «YOLO» where it does not tell."""
    name = description.get("yaml_file") if isinstance(description, dict) else None
    found = re.search(r"yolo(v?)(\d{1,2})(?!\d)", name) if isinstance(name, str) else None
    return f"YOLO{found[1]}{found[2]}" if found else "YOLO"
