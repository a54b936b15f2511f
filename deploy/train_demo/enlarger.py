"""Super-resolution model: a small Real-ESRGAN network that doubles drawn scenes of half size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from deploy.train_demo import learning
from deploy.train_demo.measuring import Measured
from deploy.train_demo.pictures import pairs
from deploy.train_demo.pictures.scenes import draw_scene
from workers.nets.srvgg import SRVGGNetCompact

SCALE = 2
BATCH, SIDE = 12, 32
LEARNING_RATE = 2e-3
# The network adds its output to the enlarged image. Small initial weights make the output near zero at first.
_FIRST = 0.1


def draw_pair(seed: int) -> pairs.Pair:
    """Return a scene at half size, and the scene."""
    scene = draw_scene(seed, pairs.SIDE)
    half = pairs.SIDE // SCALE
    return scene.resize((half, half), Image.Resampling.BICUBIC), scene


def build() -> nn.Module:
    """Return the untrained model."""
    net = SRVGGNetCompact(channels=3, features=32, convolutions=8, scale=SCALE)
    last: Any = net.body[-1]
    with torch.no_grad():
        last.weight.mul_(_FIRST)
        last.bias.zero_()
    return net


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for `steps` steps. Input and output are in 0..1."""
    torch.manual_seed(0)
    scenes = pairs.Pairs.draw(draw_pair)

    def loss_of(net: nn.Module, step: int) -> Tensor:
        given, wanted = scenes.take(step, BATCH, SIDE)
        return functional.l1_loss(net(given), wanted)

    return learning.fit(build(), loss_of, steps, rate=LEARNING_RATE, decay=0.0, most_gradient=0.5, say=say)


def measure(folder: Path, count: int) -> Measured:
    """Return the PSNR of the model and of bicubic enlargement, on `count` test scenes."""
    return pairs.compare(folder, draw_pair, count, _enlarge)


def _enlarge(pair: pairs.Pair) -> Image.Image:
    given, wanted = pair
    return given.resize(wanted.size, Image.Resampling.BICUBIC)
