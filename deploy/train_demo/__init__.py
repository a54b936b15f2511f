"""Trains the model that a new site shows: `make train-demo`. Seeded, on pictures that `pictures` draws."""
