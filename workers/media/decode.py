"""Open untrusted images: limits, header facts, and conversion of every mode to 8-bit sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    ExifTags,
    Image,
    ImageCms,
    ImageFile,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from workers.color import png_chunks
from workers.color.conversion import convert, is_gray_profile, needs_conversion
from workers.color.spaces import ColorSpace, read_color_space
from workers.formats.header_errors import HeadError
from workers.formats.signatures import MOST_STRAY_BYTES, SIGNATURES, explain_stray_bytes
from workers.media import png_transparency
from workers.media.header_limits import check_head
from workers.media.pixel_coding import PixelCoding, read_coding
from workers.plugin import OperationError
from workers.tiff import plugin
from workers.tiff.headers import bound_directories, reading_header
from workers.tiff.sample_scaling import scale_by_range, scale_unsigned

CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
# One thread, because each slot of a machine decodes its own image.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
bound_directories()
png_chunks.register()
plugin.register()
png_transparency.register()

# Increase it when the same file decodes to other pixels, or results are written with other pixels: earlier
# results are then not reused.
PIXELS_VERSION = 2
# Bytes, or characters.
MOST_XMP = 8 * 1024 * 1024
# Larger files are not read into memory just for a more exact error message.
MOST_EXPLAINED = 64 * 1024 * 1024
UNREADABLE = "This file is not an image that can be read. JPEG, PNG, TIFF, WebP and AVIF are supported."
DAMAGED = "This image is damaged and cannot be read."
TRUNCATED = "This image is damaged: it ends too early."
TOO_BIG_TO_HOLD = "This image needs more memory than is available."
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True)
class DecodeLimits:
    """Limits of accepted images. `formats` are Pillow's names."""

    max_pixels: int = 50_000_000
    max_side: int = 20_000
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


LIMITS = DecodeLimits()


class PictureError(OperationError):
    """The bytes are not an acceptable image.

    `code` is one of: unreadable, damaged, truncated, too_large, too_complex, unsupported, animated, memory.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True)
class Facts:
    """Facts from an image header. `width` and `height` are upright, in pixels; `mode` is Pillow's."""

    format: str
    content_type: str
    suffix: str
    width: int
    height: int
    mode: str
    orientation: int
    coding: PixelCoding = field(default_factory=PixelCoding)


def identify(source: bytes | BinaryIO, limits: DecodeLimits = LIMITS) -> Facts:
    """Return facts from the header, without decoding pixels. Raises PictureError."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(0)
    with open_header(stream, limits) as image, refusing(stream, limits):
        return read_facts(image, stream)


def open_header(stream: BinaryIO, limits: DecodeLimits = LIMITS) -> ImageFile.ImageFile:
    """Open an image within the limits, to read only its header. Raises PictureError."""
    with reading_header():
        return open_image(stream, limits)


def open_image(stream: BinaryIO, limits: DecodeLimits = LIMITS) -> ImageFile.ImageFile:
    """Open an image within the limits without decoding it. Raises PictureError."""
    with refusing(stream, limits):
        check_head(stream)
        stream.seek(0)
        image = _open_quietly(stream, limits)
        _check_size(image.size, limits)
        _drop_long_xmp(image)
        return image


def read_facts(image: ImageFile.ImageFile, stream: BinaryIO) -> Facts:
    """Return facts of an opened image before it is decoded. Moves the stream's position."""
    name = family(image.format)
    orientation = read_orientation(image)
    width, height = image.size
    # Pillow rotates TIFFs itself, and reports their upright size.
    if orientation >= 5 and name != "TIFF":
        width, height = height, width
    coding = read_coding(stream, image, name)
    return Facts(name, CONTENT_TYPES[name], SUFFIXES[name], width, height, image.mode, orientation, coding)


def family(format: str | None) -> str:
    """Return the format of a file by Pillow's name. A multi-picture JPEG counts as JPEG."""
    return "JPEG" if format == "MPO" else format or ""


@contextmanager
def refusing(stream: BinaryIO, limits: DecodeLimits = LIMITS) -> Iterator[None]:
    """Turn any exception of a decoder into a PictureError."""
    try:
        yield
    except PictureError:
        raise
    except HeadError as error:
        raise PictureError(error.code, error.message) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = limits.max_pixels // 1_000_000
        message = f"This image has too many pixels: at most {most} megapixels are accepted."
        raise PictureError("too_large", message) from error
    except MemoryError as error:
        raise PictureError("memory", TOO_BIG_TO_HOLD) from error
    except UnidentifiedImageError as error:
        raise _explain_unidentified(stream, limits) from error
    except Exception as error:
        raise _explain_damage(stream) from error


def read_orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF or XMP orientation, 1 to 8. Missing or invalid values count as 1."""
    try:
        # The reader of the base class: PNG's own one decodes the pixels to find a late chunk.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, SyntaxError, struct.error, zlib.error):
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSITIONS else 1


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright."""
    how = _TRANSPOSITIONS.get(orientation)
    return image.transpose(how) if how is not None else image


def normalize(image: Image.Image, space: ColorSpace = None) -> tuple[Image.Image, Image.Image | None]:
    """Split a decoded image into color (mode L or RGB, 8-bit sRGB) and alpha (mode L, or None)."""
    if image.mode in _DEEP_MODES:
        return clean(_reduce_depth(image, space)), None
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _split_alpha(image, space)
    return to_srgb(image, space), None


def to_srgb(image: Image.Image, space: ColorSpace) -> Image.Image:
    """Convert opaque colors to sRGB. A color space that does not match the pixels is ignored."""
    if image.mode == "LAB":
        return clean(_convert_lab(image))
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    if space is not None and image.mode != "CMYK":
        image = image if image.mode == wanted else image.convert(wanted)
    converted = convert(image, space)
    if converted is not None:
        return clean(converted)
    # Skip convert() for the same mode, because it copies.
    return clean(image if image.mode == wanted else image.convert(wanted))


def read_foreign_space(image: ImageFile.ImageFile, stream: BinaryIO) -> ColorSpace:
    """Return the color space from which pixels must be converted, or None if they are sRGB."""
    space = read_color_space(image, stream)
    # Pillow opens 16-bit gray with alpha as RGBA.
    mode = "LA" if png_transparency.is_deep_gray_with_alpha(image) else image.mode
    return space if needs_conversion(space, mode) else None


def clean(image: Image.Image) -> Image.Image:
    """Remove metadata that Pillow would save: comments, profile, location. Keeps the pixels."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image = image.copy()
    image.info = {}
    return image


def _open_quietly(stream: BinaryIO, limits: DecodeLimits) -> ImageFile.ImageFile:
    image = Image.open(stream, formats=limits.formats)
    if not isinstance(image, ImageFile.ImageFile):
        raise PictureError("unreadable", UNREADABLE)
    return image


def _check_size(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if min(size) < 1:
        raise PictureError("damaged", DAMAGED)
    if max(size) > limits.max_side:
        raise PictureError(
            "too_large",
            f"This image has a side of {max(size):,} pixels; at most {limits.max_side:,} are accepted.",
        )
    if width * height > limits.max_pixels:
        raise PictureError(
            "too_large",
            f"This image has {_megapixels(width * height)} megapixels; "
            f"at most {limits.max_pixels // 1_000_000} are accepted.",
        )


def _megapixels(pixels: int) -> str:
    return f"{-(-pixels // 100_000) / 10:g}"


def _drop_long_xmp(image: ImageFile.ImageFile) -> None:
    """Drop long XMP, because Pillow searches it for the orientation character by character."""
    for name in ("xmp", "XML:com.adobe.xmp"):
        if len(image.info.get(name) or ()) > MOST_XMP:
            del image.info[name]


def _explain_unidentified(stream: BinaryIO, limits: DecodeLimits) -> PictureError:
    """Return "damaged" for a known signature with a broken header, else "unreadable"."""
    head = _read(stream, MOST_STRAY_BYTES + 16)
    known = any(head.startswith(SIGNATURES[name]) for name in limits.formats if name in SIGNATURES)
    known = known or ("AVIF" in limits.formats and head[4:12] == b"ftypavif")
    if known and (not head.startswith(b"RIFF") or head[8:12] == b"WEBP"):
        return _explain_damage(stream)
    late = explain_stray_bytes(head)
    return PictureError("damaged", late) if late else PictureError("unreadable", UNREADABLE)


def _explain_damage(stream: BinaryIO) -> PictureError:
    if _size(stream) <= MOST_EXPLAINED and _ends_early(_read(stream)):
        return PictureError("truncated", TRUNCATED)
    return PictureError("damaged", DAMAGED)


def _size(stream: BinaryIO) -> int:
    try:
        return stream.seek(0, io.SEEK_END)
    except (OSError, ValueError):
        return 0


def _read(stream: BinaryIO, most: int = -1) -> bytes:
    try:
        stream.seek(0)
        return stream.read(most)
    except (OSError, ValueError):
        return b""


def _ends_early(data: bytes) -> bool:
    """Return whether the format's end mark is missing, or bytes that it refers to."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < max(2, data.rfind(b"\xff\xda"))
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) < 12 or len(data) < 8 + int(struct.unpack("<I", data[4:8])[0])
    if data.startswith((b"II*\0", b"MM\0*")):
        return len(data) < 8 or len(data) <= int(struct.unpack("<I" if data[0] == 73 else ">I", data[4:8])[0])
    return False


def _split_alpha(image: Image.Image, space: ColorSpace) -> tuple[Image.Image, Image.Image | None]:
    # Only gray pixels get a gray profile: see `read_foreign_space`.
    is_gray = image.mode in ("L", "LA", "La", "1") or is_gray_profile(space)
    whole = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    color = whole.getchannel("R") if is_gray else whole.convert("RGB")
    alpha = whole.getchannel("A")
    opaque = alpha.getextrema() == (255, 255)
    return to_srgb(clean(color), space), None if opaque else clean(alpha)


def _reduce_depth(image: Image.Image, space: ColorSpace) -> Image.Image:
    """Return grays of more than 8 bits in sRGB. It converts all 16 bits, so that dark tones stay distinct."""
    converted = convert(image, space) if image.mode.startswith("I;16") else None
    if converted is not None:
        return converted
    scaled = _scale_to_8_bits(image)
    return convert(scaled, space) or scaled


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point grays to 0..255, by the value range of their kind."""
    values = np.asarray(image)
    scaled = scale_unsigned(values, 16) if image.mode.startswith("I;16") else scale_by_range(values)
    return Image.fromarray(scaled)


def _convert_lab(image: Image.Image) -> Image.Image:
    source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")
