"""Content types that browsers display without conversion."""

# MOV is served to players as MP4, which has the same boxes. Players report what they cannot decode.
VIDEOS = frozenset({"video/mp4", "video/webm", "video/quicktime"})
WEB_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/avif"})
# Metadata cannot be removed from these, so share visitors get a rendition.
_OWNERS_ONLY = frozenset({"image/avif"})


def is_web_picture(content_type: str) -> bool:
    """Return whether every browser shows this type in a page; a TIFF, for example, needs a rendition."""
    return content_type in WEB_PICTURES


def needs_rendition(content_type: str) -> bool:
    """Return whether share visitors can only see a rendition of this image."""
    return not is_web_picture(content_type) or content_type in _OWNERS_ONLY
