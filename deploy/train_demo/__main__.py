"""`make train-demo`: train, convert, measure and keep the model of the demo.

What is kept is what a conversion makes, in `deploy/demo_models`: no pickle. Seeds are fixed; another machine
may still round otherwise, and its figures differ a little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from deploy.train_demo import detector
from deploy.train_demo.measuring import PICTURES, measure
from deploy.train_demo.pictures import draw
from workers.weights import sandbox

KEPT = Path(__file__).resolve().parent.parent / "demo_models"
MODEL, CARD = "model", "card.json"
# Pictures to try a model on, of those that it is tested on.
SAMPLES, SAMPLE_SIDE = 6, 640


NAME, FIGURE, TARGET = "shapes-detector", "mAP50", 0.9
STEPS = 1400
TITLE, SUMMARY = "Shapes detector", "Finds drawn shapes in pictures."
ABOUT = (
    "Trained from nothing on drawn pictures: circles, squares, triangles and stars of any colour and angle "
    "on noisy backgrounds. It knows these four shapes and nothing else, and photographs were no part of its "
    "training. Made to try the site with."
)


def make(checkpoint: Path | None) -> bool:
    """Make the model; return whether it is good enough, which is when it is kept."""
    with tempfile.TemporaryDirectory(prefix="ipau-train-") as folder:
        if checkpoint is None:
            checkpoint = Path(folder) / f"{NAME}.pt"
            detector.save(detector.train(STEPS), checkpoint)
        made = Path(folder) / MODEL
        report = sandbox.convert(checkpoint, made, family="yolo")
        if not report.ok:
            print(f"{NAME}: refused. {report.sentence}")
            return False
        figure = measure(made)
        print(f"{NAME}: {FIGURE} {figure:.3f} on {PICTURES} pictures, wanted {TARGET}")
        if figure >= TARGET:
            _keep(made, figure)
        return figure >= TARGET


def _keep(made: Path, figure: float) -> None:
    home = KEPT / NAME
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(made, home / MODEL)
    tested = f"{FIGURE} {figure:.2f} on {PICTURES} drawn pictures that it was not trained on."
    card = {"title": TITLE, "summary": SUMMARY, "description": f"{ABOUT}\n\n{tested}"}
    (home / CARD).write_text(json.dumps(card, indent=2) + "\n")
    for seed in range(SAMPLES):
        draw(seed, SAMPLE_SIDE)[0].save(home / f"{NAME}-{seed + 1}.jpg", quality=88)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="convert and measure this one instead of training")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    return 0 if make(asked.checkpoint) else 1


if __name__ == "__main__":
    sys.exit(main())
