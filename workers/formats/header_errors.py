"""Error of a refused image header, and messages that several formats share."""

TOO_COMPLEX = "The header of this image is too long to be read."
CUT_SHORT = "This image is damaged: it ends too early."


class HeadError(Exception):
    """An image header is refused.

    `code` is one of: too_complex, too_large, unsupported, animated, unreadable, truncated.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
