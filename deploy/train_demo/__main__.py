"""`make train-demo`: train, convert, measure and keep the models of the demo.

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

from deploy.train_demo.catalogue import PLANS, Plan
from deploy.train_demo.measuring import Measured
from workers.sandbox import run

KEPT = Path(__file__).resolve().parent.parent / "demo_models"
MODEL, CARD = "model", "card.json"


def make(plan: Plan, checkpoint: Path | None) -> bool:
    """Make a model; return whether it is good enough, which is when it is kept."""
    with tempfile.TemporaryDirectory(prefix="ipau-train-") as folder:
        if checkpoint is None:
            checkpoint = Path(folder) / plan.checkpoint
            plan.save(plan.train(plan.steps), checkpoint)
        made = Path(folder) / MODEL
        config = checkpoint.with_name("config.json")
        report = run.convert(checkpoint, made, family=plan.family, config=config if config.exists() else None)
        if not report.ok:
            print(f"{plan.name}: refused. {report.sentence}")
            return False
        measured = plan.measure(made, plan.pictures)
        print(f"{plan.name}: {describe(plan, measured)} Wanted: {plan.target:g}.")
        if measured.gain >= plan.target:
            keep(plan, made, measured)
        return measured.gain >= plan.target


def describe(plan: Plan, measured: Measured) -> str:
    """Return the sentence of the card that tells the figure."""
    return plan.figure.format(m=measured, count=plan.pictures)


def keep(plan: Plan, made: Path, measured: Measured) -> None:
    """Put a converted model in the place of the one that is kept, with its card and its pictures."""
    home = KEPT / plan.name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(made, home / MODEL)
    text = f"{plan.about}\n\n{describe(plan, measured)}"
    card = {"title": plan.title, "summary": plan.summary, "description": text}
    (home / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for number, picture in enumerate(plan.samples(), start=1):
        picture.save(home / f"{plan.name}-{number}.jpg", quality=88)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [plan.name for plan in PLANS]
    parser.add_argument("name", nargs="?", choices=names, help="make this one alone")
    parser.add_argument(
        "--checkpoint", type=Path, help="of the one named: convert and measure it, do not train"
    )
    asked = parser.parse_args()
    if asked.checkpoint and not asked.name:
        parser.error("--checkpoint is of one model: name it")
    torch.set_num_threads(2)
    wanted = [plan for plan in PLANS if asked.name in (None, plan.name)]
    good = [make(plan, asked.checkpoint) for plan in wanted]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
