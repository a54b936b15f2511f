"""Pattern classifier: a small Vision Transformer in Hugging Face's format, trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from deploy.train_demo import learning
from deploy.train_demo.detector import stack
from deploy.train_demo.measuring import Measured, top1_accuracy
from deploy.train_demo.pictures.patterns import PATTERNS, draw_pattern
from workers.nets.vit import ViT

SIDE, PATCH = 64, 8
WIDTH, LAYERS, HEADS = 96, 4, 4
BATCH = 24
LEARNING_RATE = 1e-3
# Training uses seeds from here upwards. Test images use lower seeds.
FIRST_SEED = 4_000_000
TESTED_SIDE = 160
_SPREAD = 0.02
_LEAST_SHARE = 1e-12


def build() -> nn.Module:
    """Return the untrained model, with weights initialized as in Dosovitskiy et al."""
    net = ViT(
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        inner=2 * WIDTH,
        patch=PATCH,
        image=SIDE,
        channels=3,
        classes=len(PATTERNS),
        activation="gelu",
        epsilon=1e-12,
        bias=True,
    )
    for name, weights in net.named_parameters():
        if weights.ndim > 1:
            nn.init.trunc_normal_(weights, std=_SPREAD)
        elif name.endswith("bias"):
            nn.init.zeros_(weights)
    projection = net.get_parameter("vit.embeddings.patch_embeddings.projection.weight")
    nn.init.trunc_normal_(projection, std=(3 * PATCH**2) ** -0.5)
    return net


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a classifier for `steps` steps. Input is in -1..1, output are probabilities."""
    torch.manual_seed(0)
    return learning.fit(build(), _loss_of, steps, rate=LEARNING_RATE, decay=0.02, most_gradient=1.0, say=say)


def save(net: nn.Module, path: Path) -> None:
    """Write the tensors and a `config.json` in the format of Hugging Face's Transformers."""
    save_file(net.state_dict(), path)
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_channels": 3,
        "id2label": {str(number): name for number, name in enumerate(PATTERNS)},
    }
    path.with_name("config.json").write_text(json.dumps(config))


def measure(folder: Path, count: int) -> Measured:
    """Return the top-1 accuracy on `count` test images."""
    return top1_accuracy(folder, _draw, count)


def _draw(seed: int) -> tuple[Image.Image, int]:
    return draw_pattern(seed, TESTED_SIDE)


def _loss_of(net: nn.Module, step: int) -> Tensor:
    first = FIRST_SEED + step * BATCH
    drawn = [draw_pattern(seed, SIDE) for seed in range(first, first + BATCH)]
    shares = net(stack([picture for picture, _ in drawn]) * 2 - 1)
    kinds = torch.tensor([kind for _, kind in drawn])
    return functional.nll_loss(shares.clamp_min(_LEAST_SHARE).log(), kinds)
