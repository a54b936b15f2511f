"""Pillow plug-in for TIFF: adds the kinds of samples that Pillow lacks or reads wrongly.

Pillow reads up to 8 bits a channel, JPEG, CCITT, and RGB and CMYK of 16 bits. `workers.tiff.strips` reads all
other supported kinds. Unsupported files are refused on opening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from workers.formats.header_errors import HeadError
from workers.tiff.headers import BIG_ENDIAN_BIGTIFF, SIGNATURES, TiffLayout, read_numbers
from workers.tiff.layout import (
    CIELAB,
    CMYK,
    ICCLAB,
    PALETTE,
    RGB,
    UNSIGNED,
    WEBP,
    WHITE_IS_ZERO,
    YCBCR,
    SampleLayout,
    read_layout,
)
from workers.tiff.sample_scaling import scale_by_range, scale_to_words, scale_unsigned
from workers.tiff.strips import DamagedError, read_samples

Samples = NDArray[Any]
Bytes = NDArray[np.uint8]

UNSUPPORTED_KIND = (
    "This TIFF has channels that are not supported with its compression. Convert it to an RGB TIFF of 8 bits "
    "a channel, or to PNG."
)
_DECODER = "tiff_samples"
_MODES = {CMYK: "CMYK", CIELAB: "LAB", ICCLAB: "LAB"}
_DEEP_GRAY = "I;16"


def register() -> None:
    """Make Pillow open each TIFF with this module."""
    Image.register_decoder(_DECODER, _SampleDecoder)
    Image.register_open("TIFF", SampledTiffFile, lambda start: start.startswith(SIGNATURES))


class _WholeHeader:
    """A stream with a first read of 16 bytes, the header of a BigTIFF."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(16 if self.tell() == 0 else size)


class SampledTiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF with any supported kind of samples."""

    def _open(self) -> None:
        stream = self._stream
        is_big_endian = stream.read(4) == BIG_ENDIAN_BIGTIFF
        stream.seek(0)
        if is_big_endian:
            # Pillow reads only the header of a classic TIFF.
            self.fp = cast(IO[bytes], _WholeHeader(stream))
        super()._open()
        self.fp = self._fp = stream

    @property
    def _stream(self) -> IO[bytes]:
        if self.fp is None:
            raise DamagedError("The file is closed.")
        return self.fp

    def _setup(self) -> None:
        tags = self.tag_v2
        # The directory is empty if it has too many tags.
        start = tags.offset if len(tags) else None
        file = TiffLayout(tags._endian, tags._bigtiff)
        layout = read_layout(self._stream, file, start) if start is not None else None
        if layout is None:
            super()._setup()
        elif _is_read_by_pillow(layout, self._stream):
            self._set_up_by_pillow(layout)
        else:
            self._prepare(layout)

    def _set_up_by_pillow(self, layout: SampleLayout) -> None:
        try:
            super()._setup()
        except SyntaxError as error:
            # Pillow lacks some combinations of channels, byte order and bit order.
            if layout.knows_pixels or layout.photometric == YCBCR:
                raise HeadError("unsupported", UNSUPPORTED_KIND) from error
            self._prepare(layout)
            return
        if layout.photometric == YCBCR:
            self._decode_with_libtiff()

    def _decode_with_libtiff(self) -> None:
        """Use libtiff for YCbCr, because Pillow's own decoder ignores chroma subsampling."""
        if not self.use_load_libtiff:
            self._mode, self.use_load_libtiff = "RGB", True
            box = (0, 0, *self._tile_size)
            self.tile = [ImageFile._Tile("libtiff", box, 0, ("RGBX", False, self.tag_v2.offset))]

    def _prepare(self, layout: SampleLayout) -> None:
        """Set the attributes that Pillow's own method sets, and one tile for `_SampleDecoder`."""
        self._mode = _find_mode(layout)
        self._tile_size = (layout.width, layout.height)
        is_turned = self.tag_v2.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        self._size = self._tile_size[::-1] if is_turned else self._tile_size
        self.palette = None
        self.use_load_libtiff = False
        self.tile = [ImageFile._Tile(_DECODER, (0, 0, *self._tile_size), 0, (layout,))]
        if TiffImagePlugin.ICCPROFILE in self.tag_v2:
            self.info["icc_profile"] = self.tag_v2[TiffImagePlugin.ICCPROFILE]


def _is_read_by_pillow(layout: SampleLayout, stream: IO[bytes]) -> bool:
    """Return whether Pillow reads these samples correctly, if it supports them."""
    if layout.knows_pixels or layout.photometric == YCBCR:
        return True
    if layout.is_planar or layout.compression == WEBP or layout.sample_format != UNSIGNED:
        return False
    if layout.photometric == PALETTE and max(_read_palette_numbers(stream, layout)) < 256:
        # Pillow uses the high byte, as the standard says, but some writers store bytes.
        return False
    if layout.bits == 16:
        # Pillow divides truncated bytes by alpha.
        return layout.photometric in (RGB, CMYK) and not layout.is_alpha_associated
    return layout.bits in (1, 2, 4, 8)


def _find_mode(layout: SampleLayout) -> str:
    """Return Pillow's mode of the decoded image. CMYK and Lab have no mode with alpha."""
    if layout.photometric in _MODES:
        return _MODES[layout.photometric]
    mode = "RGB" if layout.photometric in (RGB, PALETTE) else "L"
    if mode == "L" and layout.alpha is None and layout.sample_format == UNSIGNED and 8 < layout.bits <= 16:
        # The color profile is applied before scaling to 8 bits.
        return _DEEP_GRAY
    return mode + ("A" if layout.alpha is not None else "")


class _SampleDecoder(ImageFile.PyDecoder):
    """Decodes the samples of a page to 8 bits. Its argument is the layout."""

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        stream, layout = self.fd, self.args[0]
        if stream is None:
            raise DamagedError("There is no file to read from.")
        if self.mode == _DEEP_GRAY:
            self.set_as_raw(_decode_deep_gray(stream, layout).astype("<u2", copy=False).tobytes(), self.mode)
            return -1, 0
        colors, alpha = _decode(stream, layout)
        pixels = colors if alpha is None else np.concatenate([colors, alpha[..., None]], axis=-1)
        self.set_as_raw(np.ascontiguousarray(pixels).tobytes(), self.mode)
        return -1, 0


def _decode(stream: IO[bytes], layout: SampleLayout) -> tuple[Bytes, Bytes | None]:
    """Return colors for the mode, and alpha if the mode has it."""
    if layout.photometric in (CIELAB, ICCLAB):
        colors, alpha = _gather(stream, layout, lambda values: _scale_lab(values, layout))
    elif layout.photometric == PALETTE:
        palette = _read_palette(stream, layout)
        colors, alpha = _gather(stream, layout, lambda values: palette[values[..., 0]])
    elif layout.sample_format == UNSIGNED and layout.bits <= 16:
        colors, alpha = _gather(stream, layout, lambda values: scale_unsigned(values, layout.bits))
    else:
        colors, alpha = _gather(stream, layout, lambda values: values)
        colors = scale_by_range(colors)
        alpha = None if alpha is None else scale_by_range(alpha)
    if layout.photometric == WHITE_IS_ZERO:
        colors = 255 - colors
    if alpha is not None and layout.is_alpha_associated:
        colors = _unpremultiply(colors, alpha)
    if alpha is not None and layout.photometric in _MODES:
        return _composite_on_white(colors, alpha, layout), None
    return colors, alpha


def _decode_deep_gray(stream: IO[bytes], layout: SampleLayout) -> Samples:
    """Return gray of 9 to 16 bits, scaled to 16 bits."""
    gray, _alpha = _gather(stream, layout, lambda values: scale_to_words(values, layout.bits))
    return 65535 - gray if layout.photometric == WHITE_IS_ZERO else gray


def _gather(
    stream: IO[bytes], layout: SampleLayout, convert: Callable[[Samples], Samples]
) -> tuple[Samples, Samples | None]:
    """Return all colors, converted band by band, and all alpha values."""
    size = (layout.height, layout.width)
    is_narrow = layout.sample_format == UNSIGNED and layout.bits <= 16
    colors: Samples | None = None
    alpha: Samples | None = None
    for top, band in read_samples(stream, layout):
        part = convert(band[..., : layout.channels])
        if colors is None:
            colors = np.empty((*size, part.shape[-1]), part.dtype)
        colors[top : top + len(part)] = part
        if layout.alpha is not None:
            opacity = band[..., layout.alpha]
            opacity = scale_unsigned(opacity, layout.bits) if is_narrow else opacity
            if alpha is None:
                alpha = np.empty(size, opacity.dtype)
            alpha[top : top + len(part)] = opacity
    if colors is None:
        raise DamagedError("There are no strips or tiles.")
    return colors, alpha


def _read_palette_numbers(stream: IO[bytes], layout: SampleLayout) -> tuple[int, ...]:
    numbers: tuple[int, ...] = ()
    if layout.palette is not None:
        numbers = read_numbers(stream, layout.palette, layout.file, stream.seek(0, 2))
    if len(numbers) < 3 << layout.bits:
        raise DamagedError("The palette is missing or too short.")
    return numbers[: 3 << layout.bits]


def _read_palette(stream: IO[bytes], layout: SampleLayout) -> Bytes:
    """Return the palette in the shape (colors, 3)."""
    numbers = np.array(_read_palette_numbers(stream, layout), np.uint16).reshape(3, -1).T
    return (numbers >> 8 if numbers.max() > 255 else numbers).astype(np.uint8)


def _scale_lab(values: Samples, layout: SampleLayout) -> Bytes:
    """Return Lab as Pillow unpacks it: L* of 0 to 100 as 0 to 255, a* and b* as signed bytes.

    CIELAB has signed a* and b*, of 1/256 in 16 bits. ICCLAB has 128 added; 65,280 are L* 100 in 16 bits.
    """
    signed = np.int8 if layout.bits == 8 else np.int16
    lightness, chroma = values[..., :1].astype(np.float32), values[..., 1:]
    if layout.photometric == CIELAB:
        differences = chroma.astype(signed).astype(np.float32) / (1 if layout.bits == 8 else 256)
        white = 255.0 if layout.bits == 8 else 65535.0
    else:
        differences = chroma.astype(np.float32) / (1 if layout.bits == 8 else 256) - 128
        white = 255.0 if layout.bits == 8 else 65280.0
    scaled = np.clip(np.rint(lightness * (255.0 / white)), 0, 255).astype(np.uint8)
    signs = np.clip(np.rint(differences), -128, 127).astype(np.int8).view(np.uint8)
    return np.concatenate([scaled, signs], axis=-1)


def _unpremultiply(colors: Bytes, alpha: Bytes) -> Bytes:
    """Return straight colors for premultiplied ones."""
    opacity = np.maximum(alpha, 1).astype(np.uint16)[..., None]
    shares = (colors.astype(np.uint16) * 255 + opacity // 2) // opacity
    divided: Bytes = np.minimum(shares, 255).astype(np.uint8)
    return divided


def _composite_on_white(colors: Bytes, alpha: Bytes, layout: SampleLayout) -> Bytes:
    """Return CMYK or Lab colors composited on white."""
    opacity = alpha.astype(np.float32)[..., None] / 255
    if layout.photometric == CMYK:
        ink: Bytes = np.rint(colors * opacity).astype(np.uint8)
        return ink
    white = np.array([255, 0, 0], np.float32)
    signed = np.concatenate([colors[..., :1].astype(np.float32), colors[..., 1:].astype(np.int8)], axis=-1)
    # Casting through signed integers gives the bytes that Pillow expects for negative values.
    laid: Bytes = np.rint(white + (signed - white) * opacity).astype(np.int16).astype(np.uint8)
    return laid
