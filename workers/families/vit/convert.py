"""From an upload to a Vision Transformer that runs: built, exported, compared and counted."""

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

# Of a probability: far below what is shown of one.
TOLERANCE = 1e-4
_PATCHES = {
    "hugging face": "patch_embeddings.projection.weight",
    "timm": "patch_embed.proj.weight",
    "torchvision": "conv_proj.weight",
}
# Of timm's arguments of a model: those that shapes tell as well, or that change training alone.
_TOLD = frozenset({
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
    """The tensors of a classifier, and whose names they have."""

    reading: CheckpointReading
    whose: str


def recognise(upload: WeightsUpload) -> str | None:
    """Return what these weights are called where they are a Vision Transformer's, else None."""
    found = _find(upload.tensors)
    if found is None:
        return None
    named = ((n, t) for n, t in found.reading.tensors.items() if n.endswith(_PATCHES[found.whose]))
    patch = max((tensor.shape[-1] for _, tensor in named if tensor.dim()), default=0)
    return f"Vision Transformer, patches of {patch} × {patch}"


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild a classifier. Raises Refused."""
    found = _find(upload.tensors)
    if found is None:
        raise Refused("These are not the weights of a Vision Transformer classifier.", code="unknown")
    found.reading.refuse_ignored()
    config = upload.config or {}
    wishes = _read_wishes(config)
    layout = layouts.read(found.reading.tensors, found.whose)
    settings = _read_settings(layout, config, wishes)
    net = build(settings, layout.tensors)
    check_numbers(net)
    side, channels = settings["image"], settings["channels"]
    if channels != 3:
        raise Refused(f"It looks at pictures of {channels} channels; they have 3 here.", code="channels")
    example = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    onnx = export.export(net, example, {})
    facts = {
        "family": "vit",
        "task": "classify",
        "title": recognise(upload),
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
    """Build a classifier on the meta device: layers and sizes, but no memory."""
    with torch.device("meta"):
        net = vit.ViT(**settings)
    net.eval()
    return net


def build(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> vit.ViT:
    """Build a classifier and put its tensors in, as float32. Raises Refused where they do not fit."""
    net = outline(settings)
    fill(net, tensors)
    return net


def read_labels(config: Mapping[str, Any], count: int) -> list[str]:
    """The names of the classes; without one they are called by their numbers.

    Raises Refused where the config names others than the weights have.
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
            f"The id2label of the config.json does not name the {count} classes that these weights have, but "
            f"{len(labels)}. Send the config.json that was saved with them."
        )
        raise Refused(text, code="config")
    if not all(labels):
        raise Refused("The id2label of the config.json has a name that is empty, or no text.", code="config")
    return [label or f"class {number}" for number, label in enumerate(clean_names(labels))]


def _read_wishes(config: Mapping[str, Any]) -> Wishes:
    """Return what a config says of images and scores; what it says of names is read by itself."""
    said = {name: value for name, value in config.items() if name not in NAMES}
    if isinstance(said.get("pretrained_cfg"), Mapping):
        said["pretrained_cfg"] = {n: value for n, value in said["pretrained_cfg"].items() if n not in NAMES}
    # Of the weights, positions tell the side.
    said.pop("image_size", None)
    wishes = read_wishes(said, {})
    if wishes.unclear:
        raise Refused(wishes.unclear, code="config")
    for name in ("image_mean", "image_std"):
        if isinstance(config.get(name), list) and len(config[name]) != 3:
            raise Refused(f"The {name} of the config.json is not 3 numbers of 0 to 1.", code="config")
    return wishes


def _read_settings(layout: layouts.VitLayout, config: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    shapes = {name: tuple(tensor.shape) for name, tensor in layout.tensors.items()}
    told = {**config, **_read_arguments(config)}
    settings = vit.read_settings(shapes, told, layout.tokens, layout.epsilon)
    settings |= {"tokens": layout.tokens, "pool": _choose_pool(layout, config), **layout.settings}
    settings["scores"] = wishes.scores or "softmax"
    if settings["classes"] == 1:
        # A share of one class alone would always be all of it.
        settings["scores"] = "sigmoid"
    if wishes.count not in (None, settings["classes"]):
        text = f"The config.json says {wishes.count} classes, the weights have {settings['classes']}."
        raise Refused(f"{text} Send the one that belongs to these weights.", code="config")
    if wishes.size not in (None, settings["image"]):
        text = (
            f"The config.json says that images are shown at {wishes.size} × {wishes.size} pixels; these "
            f"weights have positions for {settings['image']} × {settings['image']}. Send the config.json "
            "that belongs to them, or save the model with its positions resized."
        )
        raise Refused(text, code="config")
    return settings


def _read_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what timm's arguments of a model say, in Hugging Face's words. Raises Refused."""
    arguments = config.get("model_args")
    if find_timm(config) is None or not isinstance(arguments, Mapping | None):
        return {}
    arguments = arguments or {}
    unknown = sorted(str(name) for name in arguments.keys() - _TOLD)
    activation = arguments.get("act_layer")
    if unknown or not isinstance(activation, str | None) or activation not in _ACTIVATIONS:
        name = (unknown or ["act_layer"])[0][:40]
        text = f"The model_args of the config.json say {name!r}, which is not known here."
        raise Refused(text, code="config")
    if activation is None and "quickgelu" in str(config.get("architecture")):
        activation = "quick_gelu"
    said = {"num_attention_heads": arguments.get("num_heads"), "hidden_act": _ACTIVATIONS[activation]}
    return {name: value for name, value in said.items() if value is not None}


def _choose_pool(layout: layouts.VitLayout, config: Mapping[str, Any]) -> str:
    """Return what the classes are told from: what names tell, unless timm's config says otherwise."""
    said = config.get("global_pool") if find_timm(config) is not None else None
    if said is None or layout.pool == "pair":
        return layout.pool
    if said not in ("token", "avg") or (said == "token" and layout.tokens == 0):
        text = f"The config.json says global_pool = {show_value(said)!r}: only “token” and “avg” are read."
        raise Refused(text, code="config")
    if said == "token":
        return "token"
    return "avg-norm" if layout.pool == "avg-norm" else "avg"


def _prepare(wishes: Wishes, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return how images are prepared: as the config says, else as is usual for weights of these names."""
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
    """One number for each of three channels."""
    return numbers if len(numbers) == 3 else numbers * 3


def _find(tensors: Mapping[str, Any]) -> _Found | None:
    for reading in list_readings(tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in reading.tensors.items()}
        whose = layouts.tell(shapes)
        if whose is not None and not any(0 in shape for shape in shapes.values()):
            return _Found(reading, whose)
    return None
