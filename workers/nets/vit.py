"""The Vision Transformer classifier, with the tensor names of Hugging Face's `ViTForImageClassification`.

Sources: Dosovitskiy et al. 2021; for distillation tokens Touvron et al. 2021 (DeiT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.checkpoints.upload import Refused
from workers.configs.values import show_value
from workers.nets.plan import MOST_BLOCKS, Shapes, count_blocks

HEAD = 64
EPSILON = 1e-12
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu")
# Input of the classification layer: the first token, the mean of all patches (before or after the last norm),
# or class token and distillation token.
POOLS = ("token", "avg", "avg-norm", "pair")
# Attention heads of widths with another head size than 64: ViT-H, so400m, g and G as published.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
_SAME = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "intermediate_size": "inner",
    "patch_size": "patch",
    "image_size": "image",
    "num_channels": "channels",
}


class _Embeddings(nn.Module):
    def __init__(self, width: int, channels: int, patch: int, patches: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        if tokens:
            self.cls_token = nn.Parameter(torch.empty(1, tokens, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, patches + tokens, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(channels, width, patch, patch)})

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        if self.tokens:
            first = self.cls_token.expand(patches.shape[0], -1, -1)
            patches = torch.cat([first, patches], 1)
        return patches + self.position_embeddings


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
        # Written out, so that the exporter gives the same graph for each size, and ONNX Runtime can fuse it.
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
        return x + self.output["dense"](inner)


def _activate(x: Tensor, name: str) -> Tensor:
    if name == "relu":
        return functional.relu(x)
    if name == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if name == "gelu" else "tanh")


class ViT(nn.Module):
    """Maps normalized images (n, channels, image, image) to probabilities (n, classes)."""

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
        tokens: int = 1,
        pool: str = "token",
        pre_norm: bool = False,
        scores: str = "softmax",
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise Refused(f"The pooling “{pool[:40]}” is not supported.", code="architecture")
        self.tokens, self.pool, self.scores = tokens, pool, scores
        block = [_Layer(width, heads, inner, activation, epsilon, bias=bias) for _ in range(layers)]
        self.vit = nn.ModuleDict(
            {
                "embeddings": _Embeddings(width, channels, patch, (image // patch) ** 2, tokens),
                "encoder": nn.ModuleDict({"layer": nn.Sequential(*block)}),
                "layernorm": nn.LayerNorm(width, eps=epsilon),
            }
        )
        if pre_norm:
            self.vit["layernorm_pre"] = nn.LayerNorm(width, eps=epsilon)
        self.classifier = nn.Linear(width * (2 if pool == "pair" else 1), classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.vit["embeddings"](pixels)
        if "layernorm_pre" in self.vit:
            x = self.vit["layernorm_pre"](x)
        for layer in self.vit.get_submodule("encoder.layer").children():
            x = layer(x)
        scores = self.classifier(self._gather(x))
        return scores.softmax(-1) if self.scores == "softmax" else scores.sigmoid()

    def _gather(self, x: Tensor) -> Tensor:
        """Return the input of the classification layer, (n, width), or (n, 2 * width) for two tokens."""
        norm = self.vit["layernorm"]
        if self.pool == "avg-norm":
            return norm(x[:, self.tokens :].mean(1))
        x = norm(x)
        if self.pool == "avg":
            return x[:, self.tokens :].mean(1)
        return x[:, :2].flatten(1) if self.pool == "pair" else x[:, 0]


def read_settings(
    shapes: Shapes, config: Mapping[str, Any], tokens: int = 1, epsilon: float = EPSILON
) -> dict[str, Any]:
    """Return the settings of the classifier, from its tensor shapes and else from `config.json`.

    Raises Refused if the two contradict each other, or the shapes are not those of a classifier.
    """
    projection = shapes.get("vit.embeddings.patch_embeddings.projection.weight", ())
    positions = shapes.get("vit.embeddings.position_embeddings", ())
    inner = shapes.get("vit.encoder.layer.0.intermediate.dense.weight", ())
    classes = shapes.get("classifier.weight", ())
    dimensions = [len(shape) for shape in (projection, positions, inner, classes)]
    if dimensions != [4, 3, 2, 2]:
        raise Refused("The tensors of this transformer are not those of a classifier.", code="tensors")
    width, channels, patch = projection[0], projection[1], projection[2]
    across = math.isqrt(max(0, positions[1] - tokens))
    if across**2 != positions[1] - tokens or not width or not patch:
        raise Refused("Its position embeddings are not those of a square image.", code="tensors")
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
        "classes": classes[0],
        "activation": _read_activation(config),
        "epsilon": _read_epsilon(config, epsilon),
        "bias": "vit.encoder.layer.0.attention.attention.query.bias" in shapes,
    }
    _check_config(config, settings)
    return settings


def _read_heads(config: Mapping[str, Any], width: int) -> int:
    heads = config.get("num_attention_heads", _HEADS.get(width, max(1, width // HEAD)))
    if type(heads) is not int or not 1 <= heads <= width or width % heads:
        text = f"The num_attention_heads of the config.json must divide the width of {width}."
        raise Refused(text, code="config")
    return heads


def _read_activation(config: Mapping[str, Any]) -> str:
    name = config.get("hidden_act", "gelu")
    if name not in ACTIVATIONS:
        text = f"The activation {str(name)[:40]!r} of the config.json is not supported."
        raise Refused(text, code="config")
    return str(name)


def _read_epsilon(config: Mapping[str, Any], usual: float) -> float:
    epsilon = config.get("layer_norm_eps", usual)
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise Refused("The layer_norm_eps of the config.json is not between 0 and 1.", code="config")
    return float(epsilon)


def _check_config(config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for theirs, ours in _SAME.items():
        said = config.get(theirs)
        # Sizes may be a list with both sides.
        if isinstance(said, list) and len(said) == 2 and said[0] == said[1]:
            said = said[0]
        if said not in (None, settings[ours]):
            text = (
                f"The config.json has {theirs} = {show_value(said)}, but the weights have {settings[ours]}. "
                "Upload the config.json of these weights."
            )
            raise Refused(text, code="config")
