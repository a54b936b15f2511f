"""What browsers can show by themselves."""

# Players are given MOV as MP4, whose boxes it has; what they cannot decode they say themselves.
VIDEOS = frozenset({"video/mp4", "video/webm", "video/quicktime"})
WEB_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/avif"})
# Their bytes cannot be freed of what they tell of their maker, so others are only shown a rendition.
_OWNERS_ONLY = frozenset({"image/avif"})


def is_web_picture(content_type: str) -> bool:
    """Tell whether every browser shows this type in a page; a TIFF, for one, needs a rendition."""
    return content_type in WEB_PICTURES


def needs_rendition(content_type: str) -> bool:
    """Tell whether somebody can only be shown this picture in another form."""
    return not is_web_picture(content_type) or content_type in _OWNERS_ONLY
