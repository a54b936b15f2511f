"""Shutdown of a web process: after its master died, or for a regular restart."""
