"""Conversion of Ultralytics checkpoints: rebuild the network with Ultralytics, from validated YAML.

Only the tensors and the YAML of the file are used. Runs in the sandbox. `rebuild` also runs on GPU workers,
with converted weights.
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

# Preprocessing of Ultralytics classifiers: center crop, 0 to 1.
_CLASSIFIED = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "crop_pct": 1.0, "assumed": []}


def recognize(upload: WeightsUpload) -> str | None:
    """Return the title of the model («YOLO11 detector»), or None if it is not an Ultralytics checkpoint."""
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
    """Rebuild the network, export it, and compare both. Raises Refused."""
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
        "title": recognize(upload),
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
    """Return the validated architecture and the tensors as float32. Raises Refused."""
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
    """Return the task of an architecture."""
    return HEADS[architecture["yaml"]["head"][-1][2]]


def input_stride(strides: Any) -> int:
    """Return the stride of the input of a detector, from the strides of its head: at least 32.

    A head with only small strides may still depend on features with larger ones.
    """
    return max(LEAST_STRIDE, int(strides.max()))


def check_size(architecture: Mapping[str, Any], records: Mapping[str, Any]) -> None:
    """Build the network without memory for tensors, and compare shapes with the file. Raises Refused."""
    # Import first: Ultralytics creates tensors on import, which need memory.
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
        records: tensors or tensor records, by name.
    """
    missing, extra = sorted(wanted.keys() - records.keys()), sorted(records.keys() - wanted.keys())
    if missing or extra:
        first = f"{missing[0]} is missing" if missing else f"{extra[0]} is unexpected"
        text = f"Its tensors do not match the network in its YAML: {first[:200]}."
        raise Refused(text, code="tensors")
    for name, shape in wanted.items():
        found = records[name].shape
        if found != shape:
            text = f"Its tensor {name} has the shape {list(found)}, but the network needs {list(shape)}."
            raise Refused(text, code="tensors")


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return the network as a torch module on the CPU, with folded batch normalization.

    Its input is (n, channels, height, width), RGB from 0 to 1. Its output has the layout of the facts.

    Args:
        facts: only `architecture` is read.
        tensors: the state dict as float32.
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
        raise Refused("Its tensors do not match the network in its YAML.", code="tensors") from error
    model.eval().requires_grad_(False)
    if not architecture["fused"]:
        model.fuse(verbose=False)
    head.export, head.format, head.dynamic, head.shape = True, "onnx", False, None
    return model


def rebuild_converted(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Like `rebuild`, but validate the architecture first, because the facts are not trusted."""
    found = facts["architecture"]
    architecture = {
        "yaml": check_yaml(found.get("yaml")),
        "fused": not any(name.endswith(".bn.weight") for name in tensors),
        "end2end": any(".one2one_cv2." in name for name in tensors),
    }
    check_size(architecture, tensors)
    return rebuild({"architecture": architecture}, tensors)


def without_memory() -> AbstractContextManager[Any]:
    """Create new tensors on the meta device, without memory.

    `torch.device("meta")` covers all functions, but importing what it needs takes seconds.
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
def refuse_misfits() -> Iterator[None]:
    """Turn any exception into Refused: Ultralytics raises many kinds for layers that do not fit."""
    try:
        yield
    except (MemoryError, Refused):
        raise
    except Exception as error:
        raise Refused("The layers of its network do not fit each other.", code="architecture") from error


def quiet_ultralytics() -> None:
    """Import Ultralytics offline, without persistent settings and without its patch of Pillow."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    if "ultralytics.nn.tasks" in sys.modules:
        return
    # It replaces Image.open by a function that may install packages.
    original_open = Image.open
    try:
        with _temporary_settings():
            import ultralytics.nn.tasks  # noqa: F401
    finally:
        Image.open = original_open


def as_floats(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return floating-point tensors as float32, and integer tensors unchanged."""
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


def _find(upload: WeightsUpload) -> Checkpoint:
    checkpoint = find_checkpoint(upload)
    if checkpoint is None or checkpoint.is_yolov5:
        raise Refused("This is not an Ultralytics checkpoint.", code="unknown")
    return checkpoint


def _layout_of(task: str, architecture: Mapping[str, Any]) -> str:
    if task == "classify":
        return "probabilities"
    return "end-to-end" if architecture["end2end"] else "anchors"


def _build(description: dict[str, Any]) -> Any:
    """Build the model from validated YAML, with random weights."""
    quiet_ultralytics()
    from ultralytics.nn import tasks

    task = task_of({"yaml": description})
    make = getattr(tasks, _MODELS[task])
    with refuse_misfits():
        return make(copy.deepcopy(description), ch=description["channels"], verbose=False)


def _build_layers(description: dict[str, Any]) -> Any:
    quiet_ultralytics()
    from ultralytics.nn.tasks import parse_model

    with refuse_misfits():
        return parse_model(copy.deepcopy(description), ch=description["channels"], verbose=False)[0]


@contextmanager
def _temporary_settings() -> Iterator[None]:
    """Let Ultralytics write its settings into a temporary folder, unless YOLO_CONFIG_DIR is set."""
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
    """Return the version, such as «YOLO11», from the name of the YAML file, else «YOLO»."""
    name = description.get("yaml_file") if isinstance(description, dict) else None
    found = re.search(r"yolo(v?)(\d{1,2})(?!\d)", name) if isinstance(name, str) else None
    return f"YOLO{found[1]}{found[2]}" if found else "YOLO"
