"""The models of the demo: how each is trained and measured, what it must reach, what people read of it."""

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
        checkpoint: the name of the file that a seller would upload; `save` writes it.
        pictures: how many `measure` is asked for.
        target: what the figure must reach, less what is reached without learning.
        figure: a sentence of the card, with places for a `Measured` and the count of `pictures`.
        samples: pictures to try the model on.
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
        figure="mAP50 {m.value:.2f} on {count} drawn pictures that it was not trained on.",
        samples=lambda: [draw(seed, 640)[0] for seed in range(6)],
        title="Shapes detector",
        summary="Finds drawn shapes in pictures.",
        about=(
            "Trained from nothing on drawn pictures: circles, squares, triangles and stars of any color "
            "and angle on noisy backgrounds. It knows these four shapes and nothing else: in photographs, "
            "which were no part of its training, it sees stars that are not there. Made to try the site with."
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
        figure="mAP50 of its masks {m.value:.2f} on {count} drawn pictures that it was not trained on.",
        samples=lambda: [draw(25, 640)[0]],
        title="Shapes segmenter",
        summary="Finds drawn shapes in pictures and outlines each.",
        about=(
            "A YOLO11 that began as the shapes detector of this site and learnt the masks on drawn pictures: "
            "circles, squares, triangles and stars of any color and angle on noisy backgrounds. It knows "
            "these four shapes and nothing else: in photographs, which were no part of its training, it sees "
            "stars that are not there. Made to try the site with."
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
        figure="Right for {m.value:.1%} of {count} drawn pictures that it was not trained on.",
        # One of each shape.
        samples=lambda: [draw_one(seed, 320)[0] for seed in (6, 1, 8, 10)],
        title="Shapes classifier",
        summary="Says which drawn shape fills a picture.",
        about=(
            "A YOLO11 whose first layers are those of the shapes detector of this site. It learnt on drawn "
            "pictures that one circle, square, triangle or star fills for the most part. It names one of the "
            "four for any picture, of a photograph too, where that means nothing. Made to try the site with."
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
        figure="Right for {m.value:.1%} of {count} drawn pictures that it was not trained on.",
        # One of each pattern.
        samples=lambda: [draw_pattern(seed, 320)[0] for seed in (1, 2, 3, 11, 16, 21)],
        title="Pattern classifier",
        summary="Says which pattern a picture is filled with.",
        about=(
            "A small Vision Transformer, trained from nothing on drawn pictures that are filled with bricks, "
            "checks, dots, rings, stripes or waves of any angle, size and color. It names one of the six "
            "for any picture, of a photograph too, where that means little. Made to try the site with."
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
            "On {count} drawn scenes that it was not trained on, its drawings match those worked out at "
            "{m.value:.1f} dB (PSNR), and the scenes as they are at {m.untaught:.1f} dB."
        ),
        samples=lambda: [_open_photo("coffee.jpg")],
        title="Colored pencil",
        summary="Redraws pictures as drawings in colored pencil.",
        about=(
            "A small ResNet generator that learnt from drawn scenes alone what a pencil drawing of them is: "
            "what is darker than its surroundings becomes lines, on a pale wash of the colors. The drawings "
            "it learnt from were worked out by a formula. Made to try the site with."
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
            "On {count} drawn scenes that it was not trained on, halved and enlarged again: {m.value:.1f} dB "
            "(PSNR), against {m.untaught:.1f} dB of bicubic enlarging."
        ),
        samples=lambda: [_open_photo("cat.jpg")],
        title="Double size",
        summary="Doubles the size of pictures and keeps edges sharp.",
        about=(
            "A small network of Real-ESRGAN’s compact kind, trained from nothing on drawn scenes with edges, "
            "textures and letters, to double what was halved. It sharpens edges and invents nothing; marks "
            "of strong compression it sharpens too. Photographs were no part of its training. Made to try "
            "the site with."
        ),
    ),
)
