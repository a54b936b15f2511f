"""Sample layout of a TIFF page, read from its tags. Refuses unsupported kinds.

TIFF 6.0; Adobe Photoshop TIFF Technical Notes (ICCLab); Technical Note 3 (floating-point predictor); BigTIFF.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, BinaryIO

from workers.formats.header_errors import HeadError
from workers.tiff.headers import Entry, TiffLayout, read_directory, read_numbers

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
NO_PREDICTOR, HORIZONTAL, FLOATING_POINT = 1, 2, 3
UNCOMPRESSED, OLD_JPEG, JPEG, WEBP = 1, 6, 7, 50001

# Samples are decoded before they are scaled to 8 bits: 50 megapixels of RGB in 32-bit floating point fit.
MOST_SAMPLE_BYTES = 1024 * 1024 * 1024
# A few channels of the largest image.
MOST_SAMPLES = 400_000_000
# Each one is opened as a separate file.
MOST_WEBP_CHUNKS = 10_000
# Pillow decodes a compressed strip or tile as a separate image, with up to four bytes for each pixel.
MOST_CHUNK_PIXELS = 80_000_000

_CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_LABS = frozenset({CIELAB, ICCLAB})
_BILEVEL, _THUNDERSCAN = frozenset({2, 3, 4, 32771}), 32809
# Codecs of pixels. The other codecs compress bytes.
_IMAGE_CODECS = _BILEVEL | {OLD_JPEG, JPEG, _THUNDERSCAN}
_EIGHT_BITS = frozenset({OLD_JPEG, JPEG, WEBP})
# LZW, Deflate (two numbers), LZMA and Zstandard; PackBits has no predictor.
_PREDICTED, _PACKBITS = frozenset({5, 8, 32946, 34925, 50000}), 32773
_SUPPORTED = _IMAGE_CODECS | _PREDICTED | {UNCOMPRESSED, WEBP, _PACKBITS}
_COMPRESSIONS = {
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT run-length encoding",
    32908: "Pixar film encoding",
    32909: "PixarLog",
    32947: "Kodak DCS encoding",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34665: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34713: "Nikon NEF encoding",
    34887: "LERC",
    34892: "the JPEG of camera raw files",
    34933: "PNG",
    34934: "JPEG XR",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_PHOTOMETRICS = {
    4: "a transparency mask",
    10: "ITU Lab data",
    32803: "camera raw data",
    32844: "LogL data",
    32845: "LogLuv data",
    34892: "camera raw data",
}
_BITS = {
    UNSIGNED: frozenset({*range(1, 17), 32, 64}),
    SIGNED: frozenset({8, 16, 32, 64}),
    FLOAT: frozenset({16, 32, 64}),
}
_SAMPLE_FORMATS = {UNSIGNED: "unsigned integer", SIGNED: "signed integer", FLOAT: "floating-point"}
_WHOLE_BYTES = frozenset({8, 16, 32, 64})
_VOID, _MOST_SAMPLES, _IS_REDUCED = 4, 1000, 1

CONVERT = "Convert it to an RGB TIFF of 8 or 16 bits a channel, or to PNG."
ONLY_A_PREVIEW = (
    "The first page of this TIFF is only a preview, as in camera raw files. "
    "Convert it to JPEG, PNG or a plain TIFF."
)
TOO_LARGE_CHUNKS = "The strips or tiles of this TIFF are too large. Save it with smaller ones."
TOO_MANY_WEBP_CHUNKS = (
    f"This TIFF has more than {MOST_WEBP_CHUNKS:,} strips or tiles of WebP. Save it with larger ones."
)
TOO_MANY_SAMPLES = (
    f"This TIFF has too many channels for its size: at most {MOST_SAMPLES // 1_000_000} million samples are "
    "accepted. Save it with fewer channels."
)
BAD_PREDICTOR = (
    "This TIFF uses a predictor that is not supported for its samples. Save it without a predictor."
)


@dataclass(frozen=True)
class SampleLayout:
    """Layout of one page's samples.

    `width` and `height` are in pixels as stored. `samples` is the count of samples of each pixel, `extra` the
    kinds of those beyond its colors. A chunk is a strip or a tile of `chunk_width` x `chunk_height` pixels.
    `offsets`, `counts` and `palette` are tags. Their values are read during decoding.
    """

    file: TiffLayout
    width: int
    height: int
    photometric: int
    compression: int
    bits: int
    sample_format: int
    samples: int
    extra: tuple[int, ...]
    is_planar: bool
    is_bit_reversed: bool
    predictor: int
    is_tiled: bool
    chunk_width: int
    chunk_height: int
    offsets: Entry
    counts: Entry | None
    palette: Entry | None

    @property
    def channels(self) -> int:
        """Number of color samples."""
        return _CHANNELS[self.photometric]

    @property
    def alpha(self) -> int | None:
        """Index of the alpha sample. None: there is none.

        RGB with a fourth sample of unspecified kind counts as RGBA, as in image editors.
        """
        kinds = (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA)
        found = next((index for index, kind in enumerate(self.extra) if kind in kinds), None)
        if found is None and not self.extra and (self.photometric, self.samples) == (RGB, 4):
            found = 0
        return None if found is None else self.channels + found

    @property
    def is_alpha_associated(self) -> bool:
        """Whether the colors are premultiplied by alpha."""
        return self.alpha is not None and ASSOCIATED_ALPHA in self.extra

    @property
    def knows_pixels(self) -> bool:
        """Whether the codec decompresses to pixels, not bytes."""
        return self.compression in _IMAGE_CODECS

    @property
    def is_predicted(self) -> bool:
        """Whether samples are stored as differences."""
        return self.predictor != NO_PREDICTOR and self.compression in _PREDICTED

    @property
    def chunk_samples(self) -> int:
        """Samples for each pixel in one chunk."""
        return 1 if self.is_planar else self.samples

    @property
    def planes(self) -> int:
        """Number of planes. The chunks of each plane cover the page."""
        return self.samples if self.is_planar else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a chunk."""
        return -(-self.chunk_width * self.chunk_samples * self.bits // 8)

    @property
    def across(self) -> int:
        """Number of chunks in a row."""
        return -(-self.width // self.chunk_width)

    @property
    def down(self) -> int:
        """Number of rows of chunks."""
        return -(-self.height // self.chunk_height)


def read_layout(stream: BinaryIO | IO[bytes], file: TiffLayout, start: int) -> SampleLayout | None:
    """Return the layout of the page with its directory at `start`.

    Returns:
        None if tags are missing or contradict each other: the file is damaged.

    Raises:
        HeadError: `unsupported`: a kind of TIFF that is not supported; `too_large`, `too_complex`: too many
            bytes.
    """
    tags = _Tags(stream, file, start)
    if tags.number(254) & _IS_REDUCED and 330 in tags.entries:
        raise HeadError("unsupported", ONLY_A_PREVIEW)
    _check_kinds(tags)
    layout = _make(tags)
    if tags.is_damaged or layout is None:
        return None
    _check_samples(layout)
    _check_predictor(layout)
    _check_sizes(layout)
    return layout


class _Tags:
    """The tags of a directory. The first of two equal tags counts, as in Pillow and libtiff."""

    def __init__(self, stream: BinaryIO | IO[bytes], file: TiffLayout, start: int) -> None:
        self.stream, self.file = stream, file
        self.size = stream.seek(0, 2)
        self.entries: dict[int, Entry] = {}
        self.is_damaged = False
        for entry in read_directory(stream, file, start, self.size)[0]:
            self.entries.setdefault(entry.tag, entry)

    def numbers(self, tag: int, most: int = _MOST_SAMPLES) -> tuple[int, ...]:
        """Return the integers of a tag. Empty: it is missing or has more than `most`."""
        entry = self.entries.get(tag)
        if entry is None or entry.number > most:
            return ()
        return read_numbers(self.stream, entry, self.file, self.size)

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first number of a tag."""
        found = self.numbers(tag)
        self.is_damaged = self.is_damaged or (not found and tag in self.entries)
        return found[0] if found else default


def packed_bytes(row_bytes: int) -> int:
    """Return how many bytes of a row to pack into one pixel, so that they divide the row evenly."""
    return next(size for size in (4, 3, 1) if row_bytes % size == 0)


def _check_kinds(tags: _Tags) -> None:
    """Refuse unsupported compressions, colors and samples."""
    compression, photometric = tags.number(259, UNCOMPRESSED), _photometric(tags)
    if photometric not in _CHANNELS:
        kind = _PHOTOMETRICS.get(photometric, f"colors of an unknown kind, {photometric}")
        raise _unsupported(f"This TIFF contains {kind}, which is not supported.")
    if compression not in _SUPPORTED:
        name = _COMPRESSIONS.get(compression, f"an unknown method ({compression})")
        text = f"This TIFF is compressed with {name}, which is not supported. Save it with LZW or Deflate."
        raise HeadError("unsupported", text)
    if len(set(tags.numbers(258))) > 1:
        raise _unsupported(
            "The channels of this TIFF have different numbers of bits, which is not supported."
        )
    formats = {_sample_format(kind) for kind in tags.numbers(339)}
    if photometric not in _LABS and (len(formats) > 1 or formats - set(_SAMPLE_FORMATS)):
        raise _unsupported("This TIFF has complex or mixed kinds of numbers, which are not supported.")


def _photometric(tags: _Tags) -> int:
    """Return the photometric tag. Old-style JPEG always has YCbCr, and without the tag Pillow assumes 0."""
    return YCBCR if tags.number(259) == OLD_JPEG else tags.number(262, WHITE_IS_ZERO)


def _sample_format(kind: int) -> int:
    """Return the sample format. Unspecified samples are unsigned."""
    return UNSIGNED if kind == _VOID else kind


def _make(tags: _Tags) -> SampleLayout | None:
    photometric, compression = _photometric(tags), tags.number(259, UNCOMPRESSED)
    width, height = tags.number(256), tags.number(257)
    samples = tags.number(277, 3 if compression == OLD_JPEG else 1)
    extra = tags.numbers(338)[: max(0, samples - _CHANNELS[photometric])]
    is_tiled = 322 in tags.entries and 324 in tags.entries
    chunk = (tags.number(322), tags.number(323)) if is_tiled else (width, tags.number(278, height) or height)
    offsets = tags.entries.get(324 if is_tiled else 273)
    numbers = (width, height, *chunk, samples)
    if offsets is None or min(numbers) < 1 or samples < _CHANNELS[photometric] or samples > _MOST_SAMPLES:
        return None
    is_lab = photometric in _LABS
    return SampleLayout(
        file=tags.file,
        width=width,
        height=height,
        photometric=photometric,
        compression=compression,
        bits=tags.number(258, 1),
        sample_format=UNSIGNED if is_lab else _sample_format(tags.number(339, UNSIGNED)),
        samples=samples,
        extra=extra,
        is_planar=tags.number(284, 1) == 2 and samples > 1,
        is_bit_reversed=tags.number(266, 1) == 2,
        predictor=tags.number(317, NO_PREDICTOR),
        is_tiled=is_tiled,
        chunk_width=chunk[0],
        chunk_height=chunk[1] if is_tiled else min(chunk[1], height),
        offsets=offsets,
        counts=tags.entries.get(325 if is_tiled else 279),
        palette=tags.entries.get(320),
    )


def _check_samples(layout: SampleLayout) -> None:
    """Refuse unsupported bit depths."""
    allowed = _BITS[layout.sample_format]
    if layout.compression in _BILEVEL:
        allowed = frozenset({1})
    elif layout.compression in _EIGHT_BITS or layout.photometric == YCBCR:
        allowed = frozenset({8})
    elif layout.photometric in _LABS:
        allowed = frozenset({8, 16})
    elif layout.photometric == PALETTE:
        allowed = frozenset(range(1, 17)) if layout.sample_format == UNSIGNED else frozenset()
    if layout.bits not in allowed:
        kind = f"{layout.bits}-bit {_SAMPLE_FORMATS[layout.sample_format]} samples"
        raise _unsupported(f"This TIFF has {kind}, which are not supported for its colors and compression.")


def _check_predictor(layout: SampleLayout) -> None:
    predictor, bits = layout.predictor, layout.bits
    if predictor == NO_PREDICTOR or layout.compression not in _PREDICTED:
        return
    fits = predictor == HORIZONTAL and bits in _WHOLE_BYTES
    fits = fits or (predictor == FLOATING_POINT and layout.sample_format == FLOAT)
    if not fits:
        raise HeadError("unsupported", BAD_PREDICTOR)


def _check_sizes(layout: SampleLayout) -> None:
    """Refuse layouts that need too much memory to decode. Sides and pixels are checked elsewhere."""
    if layout.knows_pixels:
        return
    height = layout.down * layout.chunk_height if layout.is_tiled else layout.height
    width = layout.across * layout.chunk_width
    if width * height * layout.samples > MOST_SAMPLES:
        raise HeadError("too_large", TOO_MANY_SAMPLES)
    total = layout.row_bytes * layout.across * height * layout.planes
    if total > MOST_SAMPLE_BYTES:
        raise HeadError(
            "too_large",
            f"The samples of this TIFF take {-(-total >> 20):,} MB; at most {MOST_SAMPLE_BYTES >> 20:,} MB "
            "are accepted. Save it with fewer bits or channels.",
        )
    pixels = layout.row_bytes * layout.chunk_height // packed_bytes(layout.row_bytes)
    if layout.compression != UNCOMPRESSED and pixels > MOST_CHUNK_PIXELS:
        raise HeadError("too_complex", TOO_LARGE_CHUNKS)
    if layout.compression == WEBP and layout.across * layout.down * layout.planes > MOST_WEBP_CHUNKS:
        raise HeadError("too_complex", TOO_MANY_WEBP_CHUNKS)


def _unsupported(reason: str) -> HeadError:
    return HeadError("unsupported", f"{reason} {CONVERT}")
