"""The style generator: a small ResNet that learns the drawing of `pencil` from drawn scenes."""

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
    """Return a scene, and the drawing of it."""
    scene = draw_scene(seed, pairs.SIDE)
    return scene, pencil.redraw(scene)


def build() -> nn.Module:
    """Return the untrained generator. With batch norms, so that large pictures go through in tiles."""
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
    """Train a generator for so many steps. It reads and writes -1 to 1."""
    torch.manual_seed(0)
    scenes = pairs.Pairs.draw(draw_pair)

    def loss_of(net: nn.Module, step: int) -> Tensor:
        given, wanted = scenes.take(step, BATCH, SIDE)
        return functional.l1_loss(net(given * 2 - 1), wanted * 2 - 1)

    return learning.fit(build(), loss_of, steps, rate=LEARNING_RATE, most_gradient=1.0, say=say)


def measure(folder: Path, count: int) -> Measured:
    """Return PSNR to the drawings of so many scenes: of the model's, and of the scenes left as they are."""
    return pairs.compare(folder, draw_pair, count, _leave)


def _leave(pair: pairs.Pair) -> Image.Image:
    return pair[0]
