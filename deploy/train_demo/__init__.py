"""Training of the demo models (`make train-demo`), with fixed seeds, on images that `pictures` draws."""
