"""What browsers can show by themselves."""

WEB_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})


def is_web_picture(content_type: str) -> bool:
    """Tell whether every browser shows this type in a page; a TIFF, for one, needs a rendition."""
    return content_type in WEB_PICTURES
