"""Pages of `docs/reference/` that are generated from code, so that they cannot differ from it."""
