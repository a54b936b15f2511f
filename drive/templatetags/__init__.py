"""Template tags and filters for files."""
