"""Template tags and filters of the market."""
