"""The error of a picture header that is refused, and the sentences that several formats share."""

TOO_COMPLEX = "The header of this picture is too long to be read."
CUT_SHORT = "This picture is damaged: it ends too early."


class HeadError(Exception):
    """This header is not read. `code` is one of: too_complex, too_large, unsupported, animated,
    unreadable, truncated."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
