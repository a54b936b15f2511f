"""Conversion of detector checkpoints of the YOLOv5 repository, from their validated YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.bundle import Bundle
from workers.checkpoints.pickle_reader import ONLY_DETECTORS, Stub
from workers.checkpoints.tensors import Tensors
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.export import export
from workers.families.yolo.checkpoint import Checkpoint, find_checkpoint
from workers.families.yolo.ultralytics_models import (
    MOST_NETWORK_PARAMETERS,
    as_floats,
    check_shapes,
    input_stride,
    quiet_ultralytics,
    refuse_misfits,
    without_memory,
)
from workers.families.yolo.ultralytics_yaml import check_yaml

TITLE = "YOLOv5 detector"
MOST_ANCHORS = 12
_DETECTORS = frozenset({"Model", "DetectionModel"})
# Layers that are the same in the current Ultralytics code.
_LAYERS = frozenset({
    "Bottleneck", "C3", "Concat", "Conv", "Detect", "DWConv", "Focus", "SPP", "SPPF", "nn.Upsample",
})  # fmt: skip
_ACTIVATION = "torch.nn.modules.activation.SiLU"


def recognize(upload: WeightsUpload) -> str | None:
    """Return the title of the model, or None if the checkpoint is not of the YOLOv5 repository."""
    checkpoint = find_checkpoint(upload)
    return TITLE if checkpoint is not None and checkpoint.is_yolov5 else None


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild the network, export it, and compare both. Raises Refused."""
    checkpoint = _find(upload)
    architecture, tensors = prepare(upload)
    model = rebuild({"architecture": architecture}, tensors)
    stride = input_stride(model.model[-1].stride)
    side = checkpoint.side(640, stride)
    facts = {
        "family": "yolo",
        "averaged": checkpoint.averaged,
        "task": "detect",
        "title": TITLE,
        "classes": checkpoint.classes(architecture["yaml"]["nc"]),
        "input": {"width": side, "height": side, "channels": architecture["yaml"]["channels"]},
        "stride": stride,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layout": "yolov5",
        "architecture": architecture,
    }
    return export(model, facts, tensors)


def prepare(upload: WeightsUpload) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the validated architecture and the tensors as float32. Raises Refused."""
    checkpoint = _find(upload)
    description = _check_yaml(checkpoint.model.get("yaml"))
    # Anchor grids of older releases are computed from the anchors.
    found = {name: t for name, t in checkpoint.tensors().items() if not name.endswith(".anchor_grid")}
    description |= _read_head(found, len(description["backbone"]) + len(description["head"]) - 1)
    _check_activations(checkpoint)
    architecture = {"yaml": description, "repository": "yolov5"}
    _check_size(architecture, found)
    return architecture, as_floats(Tensors(upload.path, found))


def rebuild_converted(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Like `rebuild`, but validate the architecture first, because the facts are not trusted."""
    description = _check_yaml(facts["architecture"].get("yaml"))
    description |= _read_head(tensors, len(description["backbone"]) + len(description["head"]) - 1)
    architecture = {"yaml": description, "repository": "yolov5"}
    _check_size(architecture, tensors)
    return rebuild({"architecture": architecture}, tensors)


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return the network as a torch module on the CPU: see `workers.families.yolo.convert.rebuild`."""
    model = _build(facts["architecture"])
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise Refused("Its tensors do not match the network in its YAML.", code="tensors") from error
    model.eval().requires_grad_(False)
    with refuse_misfits():
        model.measure_strides()
    model.fold()
    return model


def _check_yaml(found: Any) -> dict[str, Any]:
    description = check_yaml(found)
    for row in (*description["backbone"], *description["head"]):
        if row[2] not in _LAYERS:
            text = f"The layer {row[2]} is not supported in checkpoints of the YOLOv5 repository."
            raise Refused(text, code="architecture")
    return description


def _find(upload: WeightsUpload) -> Checkpoint:
    checkpoint = find_checkpoint(upload)
    if checkpoint is None or not checkpoint.is_yolov5:
        raise Refused("This is not a checkpoint of the YOLOv5 repository.", code="unknown")
    if checkpoint.model.name.name not in _DETECTORS:
        raise Refused(ONLY_DETECTORS, code="architecture")
    return checkpoint


def _read_head(found: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the number of anchors of the head, and the channels of its inputs. Raises Refused."""
    anchors = found.get(f"model.{index}.anchors")
    if anchors is None or len(anchors.shape) != 3 or not 1 <= anchors.shape[0] <= 8:
        raise Refused("The anchors of its head are missing or invalid.", code="architecture")
    weights = [found.get(f"model.{index}.m.{level}.weight") for level in range(anchors.shape[0])]
    widths = [weight.shape[1] for weight in weights if weight is not None and len(weight.shape) == 4]
    if len(widths) != len(weights) or not 1 <= anchors.shape[1] <= MOST_ANCHORS:
        raise Refused("The anchors of its head are missing or invalid.", code="architecture")
    return {"anchors": anchors.shape[1], "widths": widths}


def _check_activations(checkpoint: Checkpoint) -> None:
    """Raise Refused for activations other than SiLU. They are in the layers, not in the YAML."""
    inner: Any = checkpoint.model
    # The first layer is a convolution, or a Focus with a convolution.
    for name in ("model", "0"):
        inner = _inside(inner, name)
    act = _inside(inner, "act") or _inside(_inside(inner, "conv"), "act")
    if act is None or str(act.name) != _ACTIVATION:
        text = "Its activation is not SiLU. Releases before 4.0 are not supported."
        raise Refused(text, code="architecture")


def _inside(module: Stub | None, name: str) -> Stub | None:
    modules = module.get("_modules") if module is not None else None
    found = modules.get(name) if isinstance(modules, dict) else None
    return found if isinstance(found, Stub) else None


def _check_size(architecture: dict[str, Any], found: Mapping[str, Any]) -> None:
    quiet_ultralytics()
    with without_memory():
        model = _build(architecture)
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_NETWORK_PARAMETERS:
        raise Refused(f"Its network has more than {MOST_NETWORK_PARAMETERS:,} parameters.", code="too_large")
    check_shapes({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, found)


def _build(architecture: dict[str, Any]) -> Any:
    quiet_ultralytics()
    from workers.families.yolo.yolov5_network import Yolov5Network

    with refuse_misfits():
        return Yolov5Network(architecture["yaml"])
