"""Vision Transformers of timm, DeiT and torchvision: conversion and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from tests.workers.families.gan.layers import upload_of
from tests.workers.families.vit.test_family import CONFIG, _draw_state
from workers import bundle, registry
from workers.bundle import FolderModel
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session
from workers.sandbox import entry_point

VIT = registry.get("vit")
WIDTH, INNER, PATCH, ACROSS, LAYERS, CLASSES = 64, 96, 8, 4, 2, 5
SIDE = PATCH * ACROSS
State = dict[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


class _Draw:
    def __init__(self) -> None:
        self.state: State = {}
        self._generator = torch.Generator().manual_seed(5)

    def normal(self, *shape: int, scale: float = 1.0, around: float = 0.0) -> Tensor:
        return around + scale * torch.randn(*shape, generator=self._generator)

    def linear(self, name: str, outer: int, inner: int, *, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = self.normal(outer, inner, scale=1.5 / math.sqrt(inner))
        if bias:
            self.state[f"{name}.bias"] = self.normal(outer, scale=0.2)

    def norm(self, name: str) -> None:
        self.state[f"{name}.weight"] = self.normal(WIDTH, scale=0.2, around=1.0)
        self.state[f"{name}.bias"] = self.normal(WIDTH, scale=0.2)


def _timm(
    *,
    tokens: tuple[str, ...] = ("cls_token",),
    scaled: bool = False,
    last_norm: str = "norm",
    pre_norm: bool = False,
    without_positions: bool = False,
    registers: int = 4,
) -> State:
    """The tensors of timm's VisionTransformer."""
    draw = _Draw()
    for token in tokens:
        draw.state[token] = draw.normal(1, registers if token == "reg_token" else 1, WIDTH)
    prefix = sum(draw.state[token].shape[1] for token in tokens)
    draw.state["pos_embed"] = draw.normal(1, ACROSS**2 + (0 if without_positions else prefix), WIDTH)
    draw.state["patch_embed.proj.weight"] = draw.normal(WIDTH, 3, PATCH, PATCH, scale=0.1)
    if pre_norm:
        draw.norm("norm_pre")
    else:
        draw.state["patch_embed.proj.bias"] = draw.normal(WIDTH, scale=0.2)
    for layer in range(LAYERS):
        name = f"blocks.{layer}"
        draw.norm(f"{name}.norm1")
        draw.linear(f"{name}.attn.qkv", 3 * WIDTH, WIDTH)
        draw.linear(f"{name}.attn.proj", WIDTH, WIDTH)
        draw.norm(f"{name}.norm2")
        draw.linear(f"{name}.mlp.fc1", INNER, WIDTH)
        draw.linear(f"{name}.mlp.fc2", WIDTH, INNER)
        if scaled:
            draw.state[f"{name}.ls1.gamma"] = draw.normal(WIDTH, scale=0.5)
            draw.state[f"{name}.ls2.gamma"] = draw.normal(WIDTH, scale=0.5)
    draw.norm(last_norm)
    draw.linear("head", CLASSES, WIDTH)
    if "dist_token" in tokens:
        draw.linear("head_dist", CLASSES, WIDTH)
    return draw.state


def _forward(
    s: State, pixels: Tensor, *, heads: int = 1, pool: str = "token", epsilon: float = 1e-6
) -> Tensor:
    """What timm's `VisionTransformer` computes, written out: logits."""

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        if f"{name}.weight" not in s:
            return x
        return functional.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"], epsilon)

    bias = s.get("patch_embed.proj.bias")
    x = functional.conv2d(pixels, s["patch_embed.proj.weight"], bias, stride=PATCH).flatten(2).transpose(1, 2)
    prefix = [s[name] for name in ("cls_token", "dist_token", "reg_token") if name in s]
    count = sum(token.shape[1] for token in prefix)
    if s["pos_embed"].shape[1] == x.shape[1]:
        x = torch.cat([*prefix, x + s["pos_embed"]], 1)
    else:
        x = torch.cat([*prefix, x], 1) + s["pos_embed"]
    x = norm("norm_pre", x)
    for layer in range(LAYERS):
        name = f"blocks.{layer}"
        mixed = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x))
        query, key, value = mixed.reshape(1, -1, 3, heads, WIDTH // heads).permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
        x = x + linear(f"{name}.attn.proj", read) * s.get(f"{name}.ls1.gamma", torch.tensor(1.0))
        inner = functional.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x)))
        x = x + linear(f"{name}.mlp.fc2", inner) * s.get(f"{name}.ls2.gamma", torch.tensor(1.0))
    x = norm("norm", x)
    if "head_dist.weight" in s:
        return (linear("head", x[:, 0]) + linear("head_dist", x[:, 1])) / 2
    pooled = x[:, count:].mean(1) if pool == "avg" else x[:, 0]
    return linear("head", norm("fc_norm", pooled))


def _check(state: State, expected: Callable[[Tensor], Tensor], config: Any = None, most: float = 1e-5) -> Any:
    assert VIT.recognize(upload_of(state)) == "Vision Transformer, patches of 8 × 8"
    made = VIT.convert(upload_of(state, config=config))
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    wanted = expected(pixels).numpy()
    assert wanted.std() > 0.03
    assert np.abs(open_session(made.onnx).run(pixels.numpy())[0] - wanted).max() < most
    return made


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "layer scale": ({"scaled": True}, {}),
    "DeiT, distilled": ({"tokens": ("cls_token", "dist_token")}, {}),
    "registers": ({"tokens": ("cls_token", "reg_token"), "without_positions": True}, {}),
    "registers with positions": ({"tokens": ("cls_token", "reg_token"), "registers": 2}, {}),
    "no positions of the class": ({"without_positions": True}, {}),
    "mean of patches": ({"last_norm": "fc_norm"}, {"pool": "avg"}),
    "mean of patches, no class token": ({"last_norm": "fc_norm", "tokens": ()}, {"pool": "avg"}),
    "no class token": ({"tokens": ()}, {"pool": "avg"}),
    "norm before": ({"pre_norm": True}, {"epsilon": 1e-5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_timm_is_read(kind: str) -> None:
    drawn, said = KINDS[kind]
    state = _timm(**drawn)
    made = _check(state, lambda pixels: _forward(state, pixels, **said).softmax(-1))
    assert made.facts["assumed"] == ["mean", "std", "crop_pct"]
    assert made.facts["resample"] == "bicubic"


def test_what_timm_says_beside_is_gone_by() -> None:
    state = _timm()
    config = {
        "architecture": "vit_tiny_patch8_32",
        "num_classes": CLASSES,
        "num_features": WIDTH,
        "global_pool": "avg",
        "model_args": {"num_heads": 4, "img_size": SIDE},
        "label_names": ["ant", "bee", "cat", "dog", "elk"],
        "pretrained_cfg": {
            "input_size": [3, SIDE, SIDE], "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode":
            "squash",
            "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "num_classes": 1000, "first_conv":
            "patch_embed.proj",
        },
    }  # fmt: skip
    made = _check(state, lambda pixels: _forward(state, pixels, heads=4, pool="avg").softmax(-1), config)
    facts = made.facts
    assert facts["classes"] == ["ant", "bee", "cat", "dog", "elk"]
    assert (facts["mean"], facts["std"], facts["assumed"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [])
    assert (facts["stretch"], facts["resample"]) == (True, "bilinear")
    assert facts["crop_pct"] == pytest.approx(SIDE / 35)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_classes": 7}, "has 7 classes, but the weights have 5"),
        ({"global_pool": "max"}, "global_pool 'max' of the config.json is not supported"),
        ({"pretrained_cfg": {"input_size": [3, 64, 64]}}, r"of 64 × 64 pixels, .* 32 × 32"),
        ({"pretrained_cfg": {"input_size": [3, 32, 48]}}, "is not square"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "crop_mode": "border"}}, "crop_mode .* is border"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "random"}}, "resizes with random"),
        ({"model_args": {"rope": True}}, "model_args of the config.json have 'rope'"),
        ({"model_args": {"act_layer": "silu"}}, "have 'act_layer'"),
        ({"label_names": ["ant"]}, "does not name the 5 classes"),
    ],
)
def test_a_config_of_timm_for_other_weights_is_refused(changes: dict[str, Any], sentence: str) -> None:
    config = {"architecture": "vit_tiny", "pretrained_cfg": {"input_size": [3, 32, 32]}, **changes}
    with pytest.raises(Refused, match=sentence) as caught:
        VIT.convert(upload_of(_timm(), config=config))
    assert caught.value.code == "config"


@pytest.mark.parametrize("is_older", [True, False])
def test_torchvision_is_read(is_older: bool) -> None:
    """The same network under the names of `torchvision.models.vit_b_16`."""
    state, renamed = _timm(), {}
    parts = {
        "norm1": "ln_1", "norm2": "ln_2", "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.linear_1" if is_older else "mlp.0", "mlp.fc2": "mlp.linear_2" if is_older else
        "mlp.3",
    }  # fmt: skip
    for name, tensor in state.items():
        place, _, kind = name.rpartition(".")
        if place.startswith("blocks."):
            _, layer, part = place.split(".", 2)
            own = f"encoder.layers.encoder_layer_{layer}"
            is_mixed = part == "attn.qkv"
            name = f"{own}.self_attention.in_proj_{kind}" if is_mixed else f"{own}.{parts[part]}.{kind}"
        else:
            names = {"patch_embed.proj": "conv_proj", "norm": "encoder.ln", "head": "heads.head"}
            name = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}.get(
                name, f"{names.get(place)}.{kind}"
            )
        renamed[name] = tensor
    made = _check(renamed, lambda pixels: _forward(state, pixels).softmax(-1))
    assert made.facts["mean"] == [0.485, 0.456, 0.406]
    assert (made.facts["crop_pct"], made.facts["stretch"]) == (0.875, False)


# --- DeiT of Hugging Face.


def _deit(*, is_taught: bool) -> State:
    """Tensors of `DeiTForImageClassification`, or of that `WithTeacher`: the layers are a ViT's."""
    state = {name.replace("vit.", "deit."): tensor for name, tensor in _draw_state().items()}
    draw = _Draw()
    width = CONFIG["hidden_size"]
    state["deit.embeddings.distillation_token"] = draw.normal(1, 1, width)
    positions = "deit.embeddings.position_embeddings"
    state[positions] = torch.cat([draw.normal(1, 1, width), state[positions]], 1)
    if is_taught:
        for kind in ("weight", "bias"):
            state[f"cls_classifier.{kind}"] = state.pop(f"classifier.{kind}")
        draw.linear("distillation_classifier", len(CONFIG["id2label"]), width)
    return {**state, **draw.state}


def _as_timm_of_deit(state: State) -> State:
    """The same numbers under timm's names, whose forward pass is written out above."""
    made: State = {
        "cls_token": state["deit.embeddings.cls_token"],
        "dist_token": state["deit.embeddings.distillation_token"],
        "pos_embed": state["deit.embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        made[f"patch_embed.proj.{kind}"] = state[f"deit.embeddings.patch_embeddings.projection.{kind}"]
        made[f"norm.{kind}"] = state[f"deit.layernorm.{kind}"]
        heads = {"classifier": "head", "cls_classifier": "head", "distillation_classifier": "head_dist"}
        for head, name in heads.items():
            if f"{head}.{kind}" in state:
                made[f"{name}.{kind}"] = state[f"{head}.{kind}"]
        for layer in range(2):
            theirs, ours = f"deit.encoder.layer.{layer}", f"blocks.{layer}"
            mixed = f"{theirs}.attention.attention"
            parts = [state[f"{mixed}.{part}.{kind}"] for part in ("query", "key", "value")]
            made[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
            made[f"{ours}.attn.proj.{kind}"] = state[f"{theirs}.attention.output.dense.{kind}"]
            made[f"{ours}.mlp.fc1.{kind}"] = state[f"{theirs}.intermediate.dense.{kind}"]
            made[f"{ours}.mlp.fc2.{kind}"] = state[f"{theirs}.output.dense.{kind}"]
            made[f"{ours}.norm1.{kind}"] = state[f"{theirs}.layernorm_before.{kind}"]
            made[f"{ours}.norm2.{kind}"] = state[f"{theirs}.layernorm_after.{kind}"]
    return made


@pytest.mark.parametrize("is_taught", [True, False])
def test_deit_of_hugging_face_is_read(is_taught: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _deit(is_taught=is_taught)
    named = _as_timm_of_deit(state)
    monkeypatch.setitem(globals(), "WIDTH", CONFIG["hidden_size"])
    made = _check(state, lambda pixels: _forward(named, pixels, heads=4, epsilon=1e-6).softmax(-1), CONFIG)
    assert made.facts["classes"][0] == "ant"


def test_heads_that_differ_are_refused() -> None:
    state = _timm(tokens=("cls_token", "dist_token"))
    with pytest.raises(Refused, match="class head and distillation head have different shapes"):
        VIT.convert(upload_of({**state, "head_dist.weight": torch.zeros(3, WIDTH)}))


# --- What is not read is refused by name.

OTHERS: dict[str, tuple[Callable[[], State], str]] = {
    "backbone of DINO": (
        lambda: {n: t for n, t in _timm().items() if not n.startswith("head")},
        "without a classification layer, like DINO",
    ),
    "backbone of Hugging Face": (
        lambda: {n: t for n, t in _draw_state().items() if not n.startswith("classifier")},
        "without a classification layer",
    ),
    "BEiT of timm": (lambda: {**_timm(), "blocks.0.attn.q_bias": torch.zeros(WIDTH)}, "a BEiT"),
    "BEiT": (lambda: {"beit.embeddings.cls_token": torch.zeros(1, 1, 4)}, "a BEiT"),
    "Swin of timm": (
        lambda: {"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(9, 3)},
        "a Swin Transformer",
    ),
    "Swin": (
        lambda: {"swin.embeddings.patch_embeddings.projection.weight": torch.zeros(4, 3, 4, 4)},
        "a Swin",
    ),
    "DINOv2": (lambda: {"dinov2.embeddings.cls_token": torch.zeros(1, 1, 4)}, "a DINOv2 of Hugging Face"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("family", ["", "vit"])
def test_other_networks_are_refused_by_name(name: str, family: str) -> None:
    make, sentence = OTHERS[name]
    with pytest.raises(Refused, match=sentence) as caught:
        entry_point._choose(upload_of(make()), family)
    assert "Export others to ONNX" in caught.value.message


def test_what_it_has_beside_is_named() -> None:
    state = {**_timm(), "blocks.0.attn.q_norm.weight": torch.ones(WIDTH)}
    with pytest.raises(Refused, match=r"does not have: blocks\.0\.attn\.q_norm\.weight"):
        VIT.convert(upload_of(state))
    state = {**_timm(), "blocks.1.attn.qkv.weight": torch.ones(WIDTH, WIDTH)}
    with pytest.raises(Refused):
        VIT.convert(upload_of(state))
    with pytest.raises(Refused, match="does not have the width of"):
        VIT.convert(upload_of({**_timm(scaled=True), "blocks.1.ls1.gamma": torch.ones(3)}))


def test_senseless_shapes_are_refused() -> None:
    state = _timm(tokens=("cls_token", "dist_token"), scaled=True)
    for shape in ((), (3,), (1, 1), (2, 3, 4, 4), (2,) * 6, (1, 1, 1)):
        for name in list(state):
            with pytest.raises(Refused):
                VIT.convert(upload_of({**state, name: torch.zeros(shape)}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_runs_the_same(kind: str, tmp_path: Path) -> None:
    """Rebuilt from the facts and tensors that were written, several pictures at a time."""
    drawn, said = KINDS[kind]
    state = _timm(**drawn)
    bundle.write(
        VIT.convert(upload_of(state, config={"problem_type": "multi_label_classification"})), tmp_path
    )
    bundle.verify(tmp_path)
    facts = FolderModel(tmp_path).facts
    net = VIT.rebuild(facts, load_file(tmp_path / "weights.safetensors"))
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    wanted = torch.cat([_forward(state, one[None], **said).sigmoid() for one in pixels])
    assert (net(pixels) - wanted).abs().max() < 1e-5


def test_facts_that_no_network_has_are_not_built() -> None:
    facts = VIT.convert(upload_of(_timm())).facts
    settings = {**facts["architecture"]["settings"], "pool": "nothing"}
    with pytest.raises(Refused, match=r"pooling .* is not supported"):
        VIT.rebuild({**facts, "architecture": {"net": "vit", "settings": settings}}, {})
