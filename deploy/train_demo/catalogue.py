"""Catalog of the demo models: training, metric, target and card of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import nn

from deploy.train_demo import classifier, detector, enlarger, segmenter, style, transformer
from deploy.train_demo.measuring import Measured
from deploy.train_demo.pictures import pairs
from deploy.train_demo.pictures.patterns import draw_pattern
from deploy.train_demo.pictures.shapes import draw, draw_one

PHOTOS = Path(__file__).resolve().parents[2] / "ipau/demo_photos"


@dataclass(frozen=True)
class Plan:
    """One model.

    Args:
        checkpoint: file name of the checkpoint that `save` writes.
        pictures: number of test images for `measure`.
        target: minimum of the metric, minus its baseline without training.
        figure: sentence of the card, with placeholders for a `Measured` and the number of test images.
        samples: returns sample images for the model.
    """

    name: str
    family: str
    checkpoint: str
    steps: int
    train: Callable[[int], nn.Module]
    save: Callable[[nn.Module, Path], None]
    measure: Callable[[Path, int], Measured]
    pictures: int
    target: float
    figure: str
    samples: Callable[[], list[Image.Image]]
    title: str
    summary: str
    about: str


def _open_photo(name: str) -> Image.Image:
    with Image.open(PHOTOS / name) as photo:
        return photo.convert("RGB")


PLANS = (
    Plan(
        name="shapes-detector",
        family="yolo",
        checkpoint="model.pt",
        steps=1400,
        train=detector.train,
        save=detector.save,
        measure=detector.measure,
        pictures=400,
        target=0.9,
        figure="mAP50 is {m.value:.2f} on {count} drawn test images.",
        samples=lambda: [draw(seed, 640)[0] for seed in range(6)],
        title="Shapes detector",
        summary="Detects drawn shapes in images.",
        about=(
            "A demo model, trained from scratch on drawn images: circles, squares, triangles and stars of "
            "any color and angle on noisy backgrounds. It knows only these four shapes. It was not "
            "trained on photos, and detects stars in them that do not exist."
        ),
    ),
    Plan(
        name="shapes-segmenter",
        family="yolo",
        checkpoint="model.pt",
        steps=500,
        train=segmenter.train,
        save=segmenter.save,
        measure=segmenter.measure,
        pictures=400,
        target=0.85,
        figure="mAP50 of its masks is {m.value:.2f} on {count} drawn test images.",
        samples=lambda: [draw(25, 640)[0]],
        title="Shapes segmenter",
        summary="Detects drawn shapes in images and outlines each.",
        about=(
            "A demo model: a YOLO11, fine-tuned from the Shapes detector on drawn images with masks: "
            "circles, squares, triangles and stars of any color and angle on noisy backgrounds. It knows "
            "only these four shapes. It was not trained on photos, and detects stars in them that do not "
            "exist."
        ),
    ),
    Plan(
        name="shapes-classifier",
        family="yolo",
        checkpoint="model.pt",
        steps=500,
        train=classifier.train,
        save=classifier.save,
        measure=classifier.measure,
        pictures=400,
        target=0.95,
        figure="Top-1 accuracy is {m.value:.1%} on {count} drawn test images.",
        # One of each shape.
        samples=lambda: [draw_one(seed, 320)[0] for seed in (6, 1, 8, 10)],
        title="Shapes classifier",
        summary="Classifies the drawn shape in an image.",
        about=(
            "A demo model: a YOLO11 with the first layers of the Shapes detector, trained on drawn images "
            "of one large circle, square, triangle or star. It assigns one of the four classes to any "
            "image. For photos, the class means nothing."
        ),
    ),
    Plan(
        name="pattern-classifier",
        family="vit",
        checkpoint="model.safetensors",
        steps=2200,
        train=transformer.train,
        save=transformer.save,
        measure=transformer.measure,
        pictures=400,
        target=0.9,
        figure="Top-1 accuracy is {m.value:.1%} on {count} drawn test images.",
        # One of each pattern.
        samples=lambda: [draw_pattern(seed, 320)[0] for seed in (1, 2, 3, 11, 16, 21)],
        title="Pattern classifier",
        summary="Classifies the pattern in an image.",
        about=(
            "A demo model: a small Vision Transformer, trained from scratch on drawn images of bricks, "
            "checks, dots, rings, stripes or waves of any angle, size and color. It assigns one of the "
            "six classes to any image. For photos, the class means little."
        ),
    ),
    Plan(
        name="colored-pencil",
        family="gan",
        checkpoint="model.pth",
        steps=2600,
        train=style.train,
        save=pairs.save,
        measure=style.measure,
        pictures=60,
        target=6.0,
        figure=(
            "On {count} drawn test scenes, its drawings have a PSNR of {m.value:.1f} dB to the computed "
            "ones. The unchanged scenes have {m.untaught:.1f} dB."
        ),
        samples=lambda: [_open_photo("coffee.jpg")],
        title="Colored pencil",
        summary="Turns images into colored pencil drawings.",
        about=(
            "A demo model: a small ResNet generator, trained only on drawn scenes and drawings of them "
            "that a formula computed. Pixels that are darker than their surroundings become lines, on a "
            "pale wash of the colors."
        ),
    ),
    Plan(
        name="double-size",
        family="gan",
        checkpoint="model.pth",
        steps=3400,
        train=enlarger.train,
        save=pairs.save,
        measure=enlarger.measure,
        pictures=60,
        target=1.0,
        figure=(
            "On {count} drawn test scenes at half size, its results have a PSNR of {m.value:.1f} dB to "
            "the originals. Bicubic enlargement has {m.untaught:.1f} dB."
        ),
        samples=lambda: [_open_photo("cat.jpg")],
        title="Double size",
        summary="Doubles the size of images and keeps edges sharp.",
        about=(
            "A demo model: a small compact Real-ESRGAN network, trained from scratch on drawn scenes with "
            "edges, textures and letters, to double scenes of half size. It sharpens edges and invents no "
            "details. It also sharpens artifacts of strong compression. It was not trained on photos."
        ),
    ),
)
