"""Error of the embedded services."""


class EmbeddedError(Exception):
    """An embedded service cannot start. The message says why and what to do."""
