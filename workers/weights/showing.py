"""What an upload calls things, as it may be shown: its names are a stranger's."""


def show(name: str, most: int) -> str:
    """Return the printable part of the first `most` characters."""
    return "".join(character for character in name[:most] if character.isprintable())
