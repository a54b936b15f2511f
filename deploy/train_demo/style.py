"""Style transfer model: a small ResNet generator that learns the drawings of `pencil` from drawn scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from deploy.train_demo import learning
from deploy.train_demo.measuring import Measured
from deploy.train_demo.pictures import pairs, pencil
from deploy.train_demo.pictures.scenes import draw_scene
from workers.nets.resnet_generator import ResnetGenerator

BATCH, SIDE = 8, 64
LEARNING_RATE = 3e-3


def draw_pair(seed: int) -> pairs.Pair:
    """Return a scene and its drawing."""
    scene = draw_scene(seed, pairs.SIDE)
    return scene, pencil.redraw(scene)


def build() -> nn.Module:
    """Return the untrained generator. With batch norms, large images can be processed in tiles."""
    return ResnetGenerator(
        channels_in=3,
        channels_out=3,
        features=16,
        halvings=1,
        blocks=3,
        norm="batch",
        bias=False,
        dropout=False,
    )


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a generator for `steps` steps. Input and output are in -1..1."""
    torch.manual_seed(0)
    scenes = pairs.Pairs.draw(draw_pair)

    def loss_of(net: nn.Module, step: int) -> Tensor:
        given, wanted = scenes.take(step, BATCH, SIDE)
        return functional.l1_loss(net(given * 2 - 1), wanted * 2 - 1)

    return learning.fit(build(), loss_of, steps, rate=LEARNING_RATE, most_gradient=1.0, say=say)


def measure(folder: Path, count: int) -> Measured:
    """Return the PSNR of the model's drawings and of the unchanged scenes, on `count` test scenes."""
    return pairs.compare(folder, draw_pair, count, _leave)


def _leave(pair: pairs.Pair) -> Image.Image:
    return pair[0]
