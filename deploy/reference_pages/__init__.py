"""Generator of the pages in `docs/reference/` that come from code."""
