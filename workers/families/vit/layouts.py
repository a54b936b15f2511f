"""Tensor names of Vision Transformer classifiers: recognize the library, and rename to Hugging Face.

Supported: Hugging Face (ViT, DeiT), timm (`vit_*`, `deit_*`) and torchvision (`vit_b_16` and others).
Differences are folded into the tensors if that does not change the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workers.checkpoints.upload import Refused
from workers.nets.plan import Shapes, count_blocks

_HALVES = [0.5, 0.5, 0.5]
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Default preprocessing without a config: that of most published weights of a library.
_PREPARED: Mapping[str, Mapping[str, Any]] = {
    "hugging face": {"mean": _HALVES, "std": _HALVES, "stretch": True},
    "timm": {"mean": _HALVES, "std": _HALVES, "crop_pct": 224 / 248, "resample": "bicubic"},
    "distilled": {**_IMAGENET, "crop_pct": 224 / 248, "resample": "bicubic"},
    "deit": {**_IMAGENET, "stretch": True, "crop_pct": 224 / 256, "resample": "bicubic"},
    "torchvision": {**_IMAGENET, "crop_pct": 224 / 256},
}
# Tensors that the classifier does not use.
_UNUSED = re.compile(r"vit\.(pooler\..*|embeddings\.mask_token)")
# Names of Transformers 5 at run time, and so in files saved by others. Its own files have older names.
_LATER = re.compile(r"^vit\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_LATER_PARTS = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_PATCHES = "vit.embeddings.patch_embeddings.projection"
_TOKENS, _POSITIONS = "vit.embeddings.cls_token", "vit.embeddings.position_embeddings"
_TIMM_PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_TORCHVISION_PARTS = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "self_attention.out_proj": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
    "mlp.linear_1": "mlp.fc1",
    "mlp.linear_2": "mlp.fc2",
}
# Tensors of other transformers: BEiT, EVA, and other position embeddings.
_OTHERS = re.compile(r"relative_position|gamma_\d|q_bias|rope|cpb_mlp|decoder_")


@dataclass(frozen=True)
class VitLayout:
    """Tensors with the names of Hugging Face, and settings that names do not contain.

    `tokens`: number of tokens before the patches. `pool`: pooling before the classifier. `epsilon`: that of
    the norms. `prepared`: default preprocessing. `settings`: has `pre_norm`, a norm before the first layer.
    """

    tensors: dict[str, Tensor]
    epsilon: float
    prepared: Mapping[str, Any]
    tokens: int = 1
    pool: str = "token"
    settings: Mapping[str, Any] = field(default_factory=dict)


def tell(shapes: Shapes) -> str | None:
    """Return the library of the tensor names: "hugging face", "timm" or "torchvision", or None."""
    if any(_OTHERS.search(name) for name in shapes):
        return None
    names = {name_as_saved(name) for name in shapes}
    if {_TOKENS, _POSITIONS, f"{_PATCHES}.weight", "vit.encoder.layer.0.intermediate.dense.weight"} <= names:
        return "hugging face" if names & {"classifier.weight", "cls_classifier.weight"} else None
    if {"pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"} <= names:
        return "timm"
    wanted = {"class_token", "conv_proj.weight", "encoder.pos_embedding", "heads.head.weight"}
    return "torchvision" if wanted <= names else None


def name_as_saved(name: str) -> str:
    """Return the name under which any release of Transformers saves a tensor of a ViT or DeiT."""
    if name.startswith("deit."):
        name = f"vit.{name.removeprefix('deit.')}"
    found = _LATER.match(name)
    if found is None:
        return name
    layer, part, kind = found.groups()
    return f"vit.encoder.layer.{layer}.{_LATER_PARTS.get(part, part)}.{kind}"


def read(tensors: Mapping[str, Tensor], publisher: str) -> VitLayout:
    """Rename the tensors of a library that `tell` returned to Hugging Face. Raises Refused."""
    if publisher == "hugging face":
        return _read_hugging_face(tensors)
    return _read_timm(tensors if publisher == "timm" else _as_timm(tensors), publisher)


def _read_hugging_face(tensors: Mapping[str, Tensor]) -> VitLayout:
    own = {name_as_saved(name): tensor for name, tensor in tensors.items()}
    own = {name: tensor for name, tensor in own.items() if not _UNUSED.fullmatch(name)}
    distilled = own.pop("vit.embeddings.distillation_token", None)
    prepared = _PREPARED["hugging face"]
    if distilled is None:
        return VitLayout(own, 1e-12, prepared)
    own[_TOKENS] = _join(own[_TOKENS], distilled)
    prepared = _PREPARED["deit"]
    if "cls_classifier.weight" not in own:
        return VitLayout(own, 1e-12, prepared, tokens=2)
    heads = _pop_heads(own, "cls_classifier", "distillation_classifier")
    return VitLayout({**own, **heads}, 1e-12, prepared, tokens=2, pool="pair")


def _pop_heads(own: dict[str, Tensor], first: str, second: str) -> dict[str, Tensor]:
    """Return one layer over both tokens that computes the mean of the two heads."""
    pairs = {}
    for kind in ("weight", "bias"):
        heads = own.pop(f"{first}.{kind}", None), own.pop(f"{second}.{kind}", None)
        if heads[0] is None or heads[1] is None or heads[0].shape != heads[1].shape or not heads[0].dim():
            raise Refused("Its class head and distillation head have different shapes.", code="tensors")
        pairs[kind] = heads[0].float() / 2, heads[1].float() / 2
    return {"classifier.weight": torch.cat(pairs["weight"], -1), "classifier.bias": sum(pairs["bias"])}


def _join(*tokens: Tensor) -> Tensor:
    """Concatenate tokens (1, n, width)."""
    if any(token.dim() != 3 or token.shape[::2] != tokens[0].shape[::2] for token in tokens):
        raise Refused("Its tokens have different widths.", code="tensors")
    return torch.cat([token.float() for token in tokens], 1)


def _as_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of torchvision to timm."""
    names = {
        "class_token": "cls_token",
        "conv_proj": "patch_embed.proj",
        "encoder.pos_embedding": "pos_embed",
        "encoder.ln": "norm",
        "heads.head": "head",
    }
    renamed = {}
    for name, tensor in tensors.items():
        layer = re.fullmatch(r"encoder\.layers\.encoder_layer_(\d+)\.(.+)[._](weight|bias)", name)
        if layer is not None:
            number, part, kind = layer.groups()
            part = "attn.qkv" if part == "self_attention.in_proj" else _TORCHVISION_PARTS.get(part, part)
            name = f"blocks.{number}.{part}.{kind}"
        elif name in names:
            name = names[name]
        else:
            place, _, kind = name.rpartition(".")
            name = f"{names.get(place, place)}.{kind}" if place else name
        renamed[name] = tensor
    return renamed


def _read_timm(tensors: Mapping[str, Tensor], publisher: str) -> VitLayout:
    own = dict(tensors)
    extra = [own.pop(name) for name in ("cls_token", "dist_token", "reg_token") if name in own]
    is_distilled = "dist_token" in tensors and "head_dist.weight" in own
    made = _pop_heads(own, "head", "head_dist") if is_distilled else {}
    tokens = sum(token.shape[1] for token in extra if token.dim() == 3)
    if extra:
        made[_TOKENS] = _join(*extra)
    made[_POSITIONS] = _place(own.pop("pos_embed"), tokens)
    pool = "pair" if is_distilled else "token" if "cls_token" in tensors else "avg"
    if "fc_norm.weight" in own:
        pool = "avg-norm"
    pre_norm = "norm_pre.weight" in own
    names = {
        "patch_embed.proj": _PATCHES,
        "norm_pre": "vit.layernorm_pre",
        "fc_norm": "vit.layernorm",
        "norm": "vit.layernorm",
        "head": "classifier",
    }
    made |= _rename_blocks(own)
    for name, tensor in own.items():
        place, _, kind = name.rpartition(".")
        made[f"{names.get(place, place)}.{kind}"] = tensor
    if f"{_PATCHES}.bias" not in made:
        made[f"{_PATCHES}.bias"] = torch.zeros(made[f"{_PATCHES}.weight"].shape[:1])
    return VitLayout(
        made,
        1e-5 if pre_norm else 1e-6,
        _PREPARED["distilled" if is_distilled else publisher],
        tokens,
        pool,
        {"pre_norm": pre_norm},
    )


def _place(positions: Tensor, tokens: int) -> Tensor:
    """Return position embeddings of all tokens, with zeros for tokens that have none."""
    if positions.dim() != 3 or positions.shape[0] != 1:
        raise Refused("The tensors of this transformer are not those of a classifier.", code="tensors")
    count = positions.shape[1]
    if not tokens or round(count**0.5) ** 2 != count:
        return positions
    return torch.cat([torch.zeros(1, tokens, positions.shape[2]), positions.float()], 1)


def _rename_blocks(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move the tensors of the layers out of `own`, rename them, and fold in their layer scales."""
    made: dict[str, Tensor] = {}
    layers = count_blocks({name: tuple(t.shape) for name, t in own.items()}, "blocks.{}.attn.qkv.weight")
    for layer in range(layers):
        ours, theirs = f"vit.encoder.layer.{layer}", f"blocks.{layer}"
        scales = {
            "attn.proj": own.pop(f"{theirs}.ls1.gamma", None),
            "mlp.fc2": own.pop(f"{theirs}.ls2.gamma", None),
        }
        for kind in ("weight", "bias"):
            mixed = own.pop(f"{theirs}.attn.qkv.{kind}", None)
            if mixed is not None:
                parts = _split(mixed)
                for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                    made[f"{ours}.attention.attention.{part}.{kind}"] = tensor
            for name, part in _TIMM_PARTS.items():
                tensor = own.pop(f"{theirs}.{name}.{kind}", None)
                if tensor is not None:
                    made[f"{ours}.{part}.{kind}"] = _scale(tensor, scales.get(name))
    return made


def _split(mixed: Tensor) -> tuple[Tensor, ...]:
    if mixed.dim() == 0 or mixed.shape[0] % 3:
        raise Refused("Its queries, keys and values have different widths.", code="tensors")
    parts: tuple[Tensor, ...] = mixed.chunk(3)
    return parts


def _scale(tensor: Tensor, scale: Tensor | None) -> Tensor:
    """Fold a layer scale into the weight or bias of the layer."""
    if scale is None:
        return tensor
    if scale.dim() != 1 or not tensor.dim() or tensor.shape[0] != scale.shape[0]:
        raise Refused("The scale of a layer does not have the width of the layer.", code="tensors")
    return tensor.float() * scale.float().reshape(-1, *[1] * (tensor.dim() - 1))
