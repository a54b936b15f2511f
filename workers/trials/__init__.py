"""Trials: run a converted model on sample images, to measure its speed and show its results."""
