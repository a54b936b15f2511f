"""What can go wrong when the private services start."""


class EmbeddedError(Exception):
    """One sentence on what is wrong and a way out, for the person at the terminal."""
