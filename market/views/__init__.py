"""Pages of the market: apps, models, and the making of models."""
