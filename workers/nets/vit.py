"""The Vision Transformer classifier, in the layout of Hugging Face's `ViTForImageClassification`.

Source: Dosovitskiy et al. 2021.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.nets.plan import MOST_BLOCKS, Shapes, count_blocks
from workers.weights.upload import Refused

HEAD = 64
EPSILON = 1e-12
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu")
# What checkpoints carry beside the classifier: read by nothing here.
_UNUSED = ("vit.pooler.dense.weight", "vit.pooler.dense.bias", "vit.embeddings.mask_token")


# How Transformers 5 calls them while it runs, and so in what others save. Its own files have older names.
_LATER = re.compile(r"^vit\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_LATER_PARTS = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


class _Embeddings(nn.Module):
    def __init__(self, width: int, channels: int, patch: int, patches: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, patches + 1, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(channels, width, patch, patch)})

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches], 1) + self.position_embeddings


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {name: nn.Linear(width, width, bias=bias) for name in ("query", "key", "value")}
        )
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(self.attention[name](x)) for name in ("query", "key", "value"))
        # Written out: the exporter gives the same graph for each size, and one that ONNX Runtime fuses.
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        read = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return self.output["dense"](read)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    def __init__(
        self, width: int, heads: int, inner: int, activation: str, epsilon: float, *, bias: bool
    ) -> None:
        super().__init__()
        self.activation = activation
        self.attention = _Attention(width, heads, bias=bias)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width)})
        self.layernorm_before = nn.LayerNorm(width, eps=epsilon)
        self.layernorm_after = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        inner = _activate(self.intermediate["dense"](self.layernorm_after(x)), self.activation)
        made = self.output["dense"](inner)
        return x + made


def _activate(x: Tensor, name: str) -> Tensor:
    if name == "relu":
        return functional.relu(x)
    if name == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if name == "gelu" else "tanh")


class ViT(nn.Module):
    """Normalised pictures (n, channels, image, image) become probabilities (n, classes)."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        patch: int,
        image: int,
        channels: int,
        classes: int,
        activation: str,
        epsilon: float,
        bias: bool,
    ) -> None:
        super().__init__()
        block = [_Layer(width, heads, inner, activation, epsilon, bias=bias) for _ in range(layers)]
        self.vit = nn.ModuleDict(
            {
                "embeddings": _Embeddings(width, channels, patch, (image // patch) ** 2),
                "encoder": nn.ModuleDict({"layer": nn.Sequential(*block)}),
                "layernorm": nn.LayerNorm(width, eps=epsilon),
            }
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.vit["embeddings"](pixels)
        for layer in self.vit.get_submodule("encoder.layer").children():
            x = layer(x)
        scores = self.classifier(self.vit["layernorm"](x)[:, 0])
        return scores.softmax(-1)


def name_as_saved(name: str) -> str:
    """Return a tensor's name as Transformers saves it, whatever its release."""
    found = _LATER.match(name)
    if found is None:
        return name
    layer, part, kind = found.groups()
    return f"vit.encoder.layer.{layer}.{_LATER_PARTS.get(part, part)}.{kind}"


def is_vit(shapes: Shapes) -> bool:
    """Tell the layout by its names."""
    return {
        "vit.embeddings.cls_token",
        "vit.embeddings.position_embeddings",
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.encoder.layer.0.intermediate.dense.weight",
        "classifier.weight",
    } <= shapes.keys()


def read_settings(shapes: Shapes, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the classifier is built from. What shapes do not tell is taken from `config.json`.

    Raises Refused where the two contradict each other, or shapes make no classifier.
    """
    projection = shapes["vit.embeddings.patch_embeddings.projection.weight"]
    positions = shapes["vit.embeddings.position_embeddings"]
    inner = shapes["vit.encoder.layer.0.intermediate.dense.weight"]
    dimensions = [len(shape) for shape in (projection, positions, inner, shapes["classifier.weight"])]
    if dimensions != [4, 3, 2, 2]:
        raise Refused("The tensors of this transformer are not those of a classifier.", code="tensors")
    width, channels, patch = projection[0], projection[1], projection[2]
    across = math.isqrt(max(0, positions[1] - 1))
    if across**2 != positions[1] - 1 or not width or not patch:
        raise Refused("Its position embeddings are not those of a square picture.", code="tensors")
    layers = count_blocks(shapes, "vit.encoder.layer.{}.intermediate.dense.weight")
    if layers > MOST_BLOCKS:
        raise Refused(f"It has more than {MOST_BLOCKS} layers.", code="too_large")
    settings = {
        "width": width,
        "layers": layers,
        "heads": _read_heads(config, width),
        "inner": inner[0],
        "patch": patch,
        "image": across * patch,
        "channels": channels,
        "classes": shapes["classifier.weight"][0],
        "activation": _read_activation(config),
        "epsilon": _read_epsilon(config),
        "bias": "vit.encoder.layer.0.attention.attention.query.bias" in shapes,
    }
    _check_config(config, settings)
    return settings


def name_tensors(names: Any) -> list[str]:
    """The names of the tensors that the classifier needs."""
    return [name for name in names if name not in _UNUSED]


def _read_heads(config: Mapping[str, Any], width: int) -> int:
    heads = config.get("num_attention_heads", max(1, width // HEAD))
    if type(heads) is not int or not 1 <= heads <= width or width % heads:
        text = "The config.json names a count of attention heads that does not divide the width."
        raise Refused(text, code="config")
    return heads


def _read_activation(config: Mapping[str, Any]) -> str:
    name = config.get("hidden_act", "gelu")
    if name not in ACTIVATIONS:
        raise Refused(f"The config.json asks for the activation {str(name)[:40]!r}.", code="config")
    return str(name)


def _read_epsilon(config: Mapping[str, Any]) -> float:
    epsilon = config.get("layer_norm_eps", EPSILON)
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise Refused("The layer_norm_eps of the config.json is not between 0 and 1.", code="config")
    return float(epsilon)


_SAME = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "intermediate_size": "inner",
    "patch_size": "patch",
    "image_size": "image",
    "num_channels": "channels",
}


def _check_config(config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for theirs, ours in _SAME.items():
        if theirs in config and config[theirs] != settings[ours]:
            text = (
                f"The config.json says {theirs} = {str(config[theirs])[:40]}, the weights {settings[ours]}. "
                "Send the one that belongs to these weights."
            )
            raise Refused(text, code="config")
