"""`make train-demo`: train, convert, evaluate and store the demo models.

`deploy/demo_models` gets the converted models, without pickles. Seeds are fixed, but another machine may
round differently, so its metrics differ a little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from deploy.train_demo.catalogue import PLANS, Plan
from deploy.train_demo.measuring import Measured
from workers.sandbox import run

STORED_MODELS = Path(__file__).resolve().parent.parent / "demo_models"
MODEL, CARD = "model", "card.json"


def make(plan: Plan, checkpoint: Path | None) -> bool:
    """Train, convert and evaluate a model, and store it if it reaches its target; return whether it does."""
    with tempfile.TemporaryDirectory(prefix="ipau-train-") as folder:
        if checkpoint is None:
            checkpoint = Path(folder) / plan.checkpoint
            plan.save(plan.train(plan.steps), checkpoint)
        model = Path(folder) / MODEL
        config = checkpoint.with_name("config.json")
        report = run.convert(
            checkpoint, model, family=plan.family, config=config if config.exists() else None
        )
        if not report.ok:
            print(f"{plan.name}: refused. {report.sentence}")
            return False
        measured = plan.measure(model, plan.pictures)
        print(f"{plan.name}: {describe(plan, measured)} Target: {plan.target:g}.")
        if measured.gain >= plan.target:
            store(plan, model, measured)
        return measured.gain >= plan.target


def describe(plan: Plan, measured: Measured) -> str:
    """Return the sentence of the card with the metric."""
    return plan.figure.format(m=measured, count=plan.pictures)


def store(plan: Plan, model: Path, measured: Measured) -> None:
    """Replace the stored model with this converted one, and write its card and sample images."""
    home = STORED_MODELS / plan.name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(model, home / MODEL)
    text = f"{plan.about}\n\n{describe(plan, measured)}"
    card = {"title": plan.title, "summary": plan.summary, "description": text}
    (home / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for number, picture in enumerate(plan.samples(), start=1):
        picture.save(home / f"{plan.name}-{number}.jpg", quality=88)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [plan.name for plan in PLANS]
    parser.add_argument("name", nargs="?", choices=names, help="train only this model")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="convert and evaluate this checkpoint of the named model, without training",
    )
    options = parser.parse_args()
    if options.checkpoint and not options.name:
        parser.error("--checkpoint needs the name of a model")
    torch.set_num_threads(2)
    plans = [plan for plan in PLANS if options.name in (None, plan.name)]
    results = [make(plan, options.checkpoint) for plan in plans]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
