"""Conversion of Vision Transformer weights: rebuild the network, export it to ONNX, and compare both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.bundle import Bundle
from workers.checkpoints.class_names import NAMES, clean_names, find_names, order_names
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.configs.model_config import Wishes, read_wishes
from workers.configs.timm import find_timm
from workers.configs.values import show_value
from workers.families.vit import layouts
from workers.nets import export, vit
from workers.nets.catalogue import fill
from workers.nets.export import check_numbers
from workers.nets.wrappers import CheckpointReading, list_readings

# Largest difference of a probability.
TOLERANCE = 1e-4
_PATCHES = {
    "hugging face": "patch_embeddings.projection.weight",
    "timm": "patch_embed.proj.weight",
    "torchvision": "conv_proj.weight",
}
# model_args of timm that follow from tensor shapes, or only affect training.
_IGNORED_ARGUMENTS = frozenset({
    "img_size", "num_classes", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "global_pool",
    "class_token", "init_values", "reg_tokens", "no_embed_class", "qkv_bias", "fc_norm", "pre_norm",
    "in_chans",
    "drop_rate", "drop_path_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate",
    "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "weight_init", "fix_init", "act_layer",
    "qk_norm",
})  # fmt: skip
_ACTIVATIONS = {
    None: None,
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}


@dataclass(frozen=True)
class _Found:
    """The tensors of a classifier, and the library of their names."""

    reading: CheckpointReading
    publisher: str


def recognize(upload: WeightsUpload) -> str | None:
    """Return a title, or None if the weights are not a Vision Transformer."""
    found = _find(upload.tensors)
    if found is None:
        return None
    named = ((n, t) for n, t in found.reading.tensors.items() if n.endswith(_PATCHES[found.publisher]))
    patch = max((tensor.shape[-1] for _, tensor in named if tensor.dim()), default=0)
    return f"Vision Transformer, patches of {patch} × {patch}"


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild a classifier. Raises Refused."""
    found = _find(upload.tensors)
    if found is None:
        raise Refused("These weights are not a Vision Transformer classifier.", code="unknown")
    found.reading.refuse_ignored()
    config = upload.config or {}
    wishes = _read_wishes(config)
    layout = layouts.read(found.reading.tensors, found.publisher)
    settings = _read_settings(layout, config, wishes)
    net = build(settings, layout.tensors)
    check_numbers(net)
    side, channels = settings["image"], settings["channels"]
    if channels != 3:
        raise Refused(f"Its input has {channels} channels. Only 3 are supported.", code="channels")
    example = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    onnx = export.export(net, example, {})
    facts = {
        "family": "vit",
        "task": "classify",
        "title": recognize(upload),
        "averaged": found.reading.shown_name,
        "classes": read_labels(config, settings["classes"]),
        "input": {"width": side, "height": side, "channels": channels},
        "stride": settings["patch"],
        "parameters": export.count_parameters(net),
        "flops": export.count_flops(outline(settings), example.to("meta")),
        "layout": "probabilities",
        **_prepare(wishes, layout.prepared),
        "architecture": {"net": "vit", "settings": settings},
    }
    difference = export.compare(net, onnx, [example, -example])
    return Bundle(facts, net.state_dict(), onnx, difference, TOLERANCE)


def outline(settings: Mapping[str, Any]) -> vit.ViT:
    """Build the network on the meta device, without memory."""
    with torch.device("meta"):
        net = vit.ViT(**settings)
    net.eval()
    return net


def build(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> vit.ViT:
    """Build the network and load its tensors as float32. Raises Refused if they do not fit."""
    net = outline(settings)
    fill(net, tensors)
    return net


def read_labels(config: Mapping[str, Any], count: int) -> list[str]:
    """Return the class names; classes without a name get their number.

    Raises Refused if the config does not fit the number of classes.
    """
    try:
        found = find_names(config)
        labels = None if found is None else order_names(found)
    except ValueError as error:
        text = f"The id2label of the config.json does not name the {count} classes of these weights: {error}."
        raise Refused(text, code="config") from error
    if labels is None:
        return [f"class {number}" for number in range(count)]
    if len(labels) != count:
        text = (
            f"The id2label of the config.json does not name the {count} classes of these weights, but "
            f"{len(labels)}. Upload the config.json that was saved with them."
        )
        raise Refused(text, code="config")
    if not all(labels):
        raise Refused(
            "The id2label of the config.json has a name that is empty or not a string.", code="config"
        )
    return [label or f"class {number}" for number, label in enumerate(clean_names(labels))]


def _read_wishes(config: Mapping[str, Any]) -> Wishes:
    """Return the image and score settings of a config. Class names are read by `read_labels`."""
    said = {name: value for name, value in config.items() if name not in NAMES}
    if isinstance(said.get("pretrained_cfg"), Mapping):
        said["pretrained_cfg"] = {n: value for n, value in said["pretrained_cfg"].items() if n not in NAMES}
    # The image size follows from the position embeddings.
    said.pop("image_size", None)
    wishes = read_wishes(said, {})
    if wishes.unclear:
        raise Refused(wishes.unclear, code="config")
    for name in ("image_mean", "image_std"):
        if isinstance(config.get(name), list) and len(config[name]) != 3:
            raise Refused(f"The {name} of the config.json must be 3 numbers from 0 to 1.", code="config")
    return wishes


def _read_settings(layout: layouts.VitLayout, config: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    shapes = {name: tuple(tensor.shape) for name, tensor in layout.tensors.items()}
    told = {**config, **_read_arguments(config)}
    settings = vit.read_settings(shapes, told, layout.tokens, layout.epsilon)
    settings |= {"tokens": layout.tokens, "pool": _choose_pool(layout, config), **layout.settings}
    settings["scores"] = wishes.scores or "softmax"
    if settings["classes"] == 1:
        # The softmax of a single class is always 1.
        settings["scores"] = "sigmoid"
    if wishes.count not in (None, settings["classes"]):
        text = f"The config.json has {wishes.count} classes, but the weights have {settings['classes']}."
        raise Refused(f"{text} Upload the config.json of these weights.", code="config")
    if wishes.size not in (None, settings["image"]):
        text = (
            f"The config.json has an image size of {wishes.size} × {wishes.size} pixels, but the position "
            f"embeddings are for {settings['image']} × {settings['image']}. Upload the config.json of these "
            "weights, or save the model with resized position embeddings."
        )
        raise Refused(text, code="config")
    return settings


def _read_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model_args of timm, with the names of Hugging Face. Raises Refused."""
    arguments = config.get("model_args")
    if find_timm(config) is None or not isinstance(arguments, Mapping | None):
        return {}
    arguments = arguments or {}
    unknown = sorted(str(name) for name in arguments.keys() - _IGNORED_ARGUMENTS)
    activation = arguments.get("act_layer")
    if unknown or not isinstance(activation, str | None) or activation not in _ACTIVATIONS:
        name = (unknown or ["act_layer"])[0][:40]
        text = f"The model_args of the config.json have {name!r}, which is not supported."
        raise Refused(text, code="config")
    if activation is None and "quickgelu" in str(config.get("architecture")):
        activation = "quick_gelu"
    said = {"num_attention_heads": arguments.get("num_heads"), "hidden_act": _ACTIVATIONS[activation]}
    return {name: value for name, value in said.items() if value is not None}


def _choose_pool(layout: layouts.VitLayout, config: Mapping[str, Any]) -> str:
    """Return the pooling: that of the tensor names, unless the timm config has another."""
    said = config.get("global_pool") if find_timm(config) is not None else None
    if said is None or layout.pool == "pair":
        return layout.pool
    if said not in ("token", "avg") or (said == "token" and layout.tokens == 0):
        text = (
            f"The global_pool {show_value(said)!r} of the config.json is not supported. Use “token” or “avg”."
        )
        raise Refused(text, code="config")
    if said == "token":
        return "token"
    return "avg-norm" if layout.pool == "avg-norm" else "avg"


def _prepare(wishes: Wishes, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing of images: that of the config, else the default of the library."""
    is_said = wishes.stretch is not None or wishes.crop_pct is not None
    shape = {"stretch": wishes.stretch, "crop_pct": wishes.crop_pct} if is_said else usual
    told = {
        "mean": _for_all(wishes.mean or usual["mean"]),
        "std": _for_all(wishes.std or usual["std"]),
        "stretch": bool(shape.get("stretch")),
        "crop_pct": shape.get("crop_pct"),
        "resample": wishes.resample or (None if is_said else usual.get("resample")),
        "order": wishes.order,
    }
    assumed = [name for name in ("mean", "std") if getattr(wishes, name) is None]
    if not is_said and usual.get("crop_pct"):
        assumed.append("crop_pct")
    return {**told, "assumed": assumed}


def _for_all(numbers: list[float]) -> list[float]:
    """Return one number for each of three channels."""
    return numbers if len(numbers) == 3 else numbers * 3


def _find(tensors: Mapping[str, Any]) -> _Found | None:
    for reading in list_readings(tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in reading.tensors.items()}
        publisher = layouts.tell(shapes)
        if publisher is not None and not any(0 in shape for shape in shapes.values()):
            return _Found(reading, publisher)
    return None
