"""Lazily decoded image: full, gray and reduced views, upright and in sRGB, each decoded once."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from workers.color.spaces import ColorSpace
from workers.media.decode import (
    CONTENT_TYPES,
    LIMITS,
    SUFFIXES,
    DecodeLimits,
    Facts,
    PictureError,
    clean,
    identify,
    normalize,
    open_header,
    open_image,
    read_facts,
    read_foreign_space,
    refusing,
    to_srgb,
    turn,
)
from workers.media.decode_costs import check_cost
from workers.media.deep_colors import LowBytes, convert_whole_samples
from workers.media.png_transparency import load_in_own_mode, read_opacity

__all__ = [
    "CONTENT_TYPES",
    "LIMITS",
    "SUFFIXES",
    "DecodeLimits",
    "Facts",
    "Picture",
    "PictureError",
    "ThumbnailImage",
    "encode_thumbnail",
    "fit",
    "identify",
]

Size = tuple[int, int]
THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class ThumbnailImage:
    """A small WebP."""

    data: bytes
    width: int
    height: int


class Picture:
    """One image, from bytes or from pixels. Views are created on first access, and cached.

    Views are shared, so callers must not change them. `decode_ms` is the total decoding time.
    """

    def __init__(self, data: bytes | None, facts: Facts, size: Size, space: ColorSpace) -> None:
        self._data = data
        self.facts = facts
        self._space = space
        self._views: dict[object, Image.Image] = {}
        self._alpha: Image.Image | None = None
        self.width, self.height = size
        self.decode_ms = 0.0

    @classmethod
    def open(cls, data: bytes, limits: DecodeLimits = LIMITS) -> Picture:
        """Read the header. Raises PictureError. Views raise it too if the pixels are damaged."""
        stream = io.BytesIO(data)
        with open_header(stream, limits) as image, refusing(stream):
            facts = read_facts(image, stream)
            check_cost(data, facts.format, (facts.width, facts.height))
            space = read_foreign_space(image, stream)
        return cls(data, facts, (facts.width, facts.height), space)

    @classmethod
    def of(cls, image: Image.Image, like: Picture) -> Picture:
        """Return an image of pixels in memory. Results are written in the format of `like`."""
        picture = cls(None, like.facts, image.size, None)
        color, picture._alpha = normalize(image)
        picture._views["straight"] = color
        return picture

    @property
    def format(self) -> str | None:
        return self.facts.format

    # --- Views. PictureView documents them.

    def rgb(self, *, flat: bool = True) -> Image.Image:
        color = self._flat() if flat else self._straight()
        return self._keep(("rgb", flat), lambda: _as_mode(color, "RGB"))

    def gray(self, *, flat: bool = True) -> Image.Image:
        if self._can_draft_gray():
            return self._keep("gray", lambda: self._decode("L", None))
        color = self._flat() if flat else self._straight()
        return self._keep(("gray", flat), lambda: _as_mode(color, "L"))

    def alpha(self) -> Image.Image | None:
        if self.format == "JPEG" and self._data is not None:
            return None  # JPEG has no alpha, so it is not decoded
        self._straight()
        return self._alpha

    def reduced(self, width: int, height: int) -> Image.Image:
        return self.reduced_by(self._find_factor(width, height))

    def reduced_by(self, factor: int) -> Image.Image:
        factor = self._limit_factor(factor)
        if factor == 1:
            return self.rgb()
        return self._keep(("reduced", factor), lambda: self._reduce("RGB", factor))

    def reduced_gray(self, width: int, height: int) -> Image.Image:
        factor = self._limit_factor(self._find_factor(width, height))
        if factor == 1:
            return self.gray()
        return self._keep(("reduced gray", factor), lambda: self._reduce("L", factor))

    def shrunk(self, max_side: int) -> Picture:
        """Return the image, including alpha, with no side longer than `max_side`."""
        size = fit((self.width, self.height), max_side)
        if size == (self.width, self.height):
            return self
        small = self.reduced(*size) if self._can_draft() else self._straight()
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        picture = Picture(None, self.facts, size, None)
        picture._views["straight"] = small
        if not self._can_draft() and self._alpha is not None:
            picture._alpha = self._alpha.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        picture.decode_ms = self.decode_ms
        return picture

    def thumbnail(self, side: int) -> ThumbnailImage:
        """Return a WebP with no side longer than `side`. Decodes at a reduced size, but to the file's end."""
        small = self.shrunk(side)
        return encode_thumbnail(small._straight(), side, small._alpha)

    # --- Decoding.

    def _keep(self, key: object, make: Callable[[], Image.Image]) -> Image.Image:
        if key not in self._views:
            self._views[key] = make()
        return self._views[key]

    def _can_draft(self) -> bool:
        """Return whether the decoder can reduce while decoding, and no full view is cached."""
        return self.format == "JPEG" and self._data is not None and "straight" not in self._views

    def _can_draft_gray(self) -> bool:
        return self._can_draft() and self._space is None

    def _straight(self) -> Image.Image:
        return self._keep("straight", lambda: self._decode(None, None))

    def _flat(self) -> Image.Image:
        color = self._straight()
        if self._alpha is None:
            return color
        return self._keep("flat", lambda: _composite_on_white(color, self._alpha))

    def _find_factor(self, width: int, height: int) -> int:
        return max(1, min(self.width // max(1, width), self.height // max(1, height)))

    def _limit_factor(self, factor: int) -> int:
        factor = max(1, min(factor, max(self.width, self.height)))
        if self.format != "JPEG" or self._data is None:
            return factor
        # A whole multiple of the decoder's factor, so that pixels align. Also if the full image is cached,
        # because a view must not depend on earlier views.
        drafted = _choose_draft(factor)
        return factor // drafted * drafted

    def _reduce(self, mode: str, factor: int) -> Image.Image:
        if not self._can_draft():
            return _as_mode(self._flat().reduce(factor), mode)
        larger = self._find_reduced(mode, factor)
        if larger is not None:
            return larger
        drafted = _choose_draft(factor)
        rest = factor // drafted
        image = self._decode("L" if mode == "L" and self._space is None else "RGB", drafted)
        return _as_mode(image.reduce(rest) if rest > 1 else image, mode)

    def _find_reduced(self, mode: str, factor: int) -> Image.Image | None:
        """Return the view, reduced from a larger cached one, or None. That is cheaper than decoding again."""
        for have in range(factor - 1, 1, -1):
            view = self._views.get(("reduced", have))
            if view is not None and factor % have == 0:
                return _as_mode(view.reduce(factor // have), mode)
        return None

    def _decode(self, mode: str | None, factor: int | None) -> Image.Image:
        """Decode from bytes: everything, or (JPEG) only luma and reduced by a factor of 1, 2, 4 or 8."""
        if self._data is None:
            raise RuntimeError("An image of pixels has no file to decode.")
        started = time.perf_counter()
        stream = io.BytesIO(self._data)
        with open_image(stream) as image, refusing(stream):
            if mode is not None:
                image.draft(mode, _draft_size(image.size, factor))
            # The bytes are in memory, so one decoder call replaces one for each 64 KiB. Not for a TIFF with
            # several strips, because each strip would read up to the end of the file.
            if len(image.tile) == 1:
                image.decodermaxblock = max(image.decodermaxblock, len(self._data))
            low_bytes = LowBytes(image, self._data)
            decoded = load_in_own_mode(image)
            upright = self._bring_upright(decoded, mode, low_bytes)
        self.decode_ms += (time.perf_counter() - started) * 1000
        return upright

    def _bring_upright(self, image: Image.Image, mode: str | None, low_bytes: LowBytes) -> Image.Image:
        if mode is None:
            # First, because normalize() drops `info`, which has the transparent color.
            opacity = read_opacity(image, low_bytes)
            deep = convert_whole_samples(image, low_bytes, self._space)
            color, alpha = normalize(image, self._space) if deep is None else normalize(deep)
            alpha = opacity or alpha
        else:
            # Drafts of CMYK files change the size but not the mode.
            color, alpha = _as_mode(to_srgb(image, self._space), mode), None
        # Pillow rotates TIFFs itself while decoding.
        orientation = 1 if self.format == "TIFF" else self.facts.orientation
        if alpha is not None:
            self._alpha = turn(alpha, orientation)
        return turn(color, orientation)


def fit(size: Size, max_side: int) -> Size:
    """Return the largest size with this aspect ratio and sides from 1 to `max_side` pixels."""
    width, height = size
    scale = min(1.0, max_side / max(size))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode_thumbnail(image: Image.Image, side: int, alpha: Image.Image | None = None) -> ThumbnailImage:
    """Return a WebP with sides of at most `side` pixels, without metadata. Accepts any mode."""
    size = fit(image.size, side)
    small = _prepare_small(image, side)
    if size != small.size:
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    if alpha is not None:
        small = small.convert("RGB")
        small.putalpha(alpha if alpha.size == size else alpha.resize(size))
    target = io.BytesIO()
    # Method 2 takes half the default's time for a few hundred bytes more.
    clean(small).save(target, "WEBP", quality=THUMBNAIL_QUALITY, method=2)
    return ThumbnailImage(target.getvalue(), *size)


def _prepare_small(image: Image.Image, side: int) -> Image.Image:
    """Return the image in a mode that can be averaged. Large palette images are subsampled first."""
    if image.mode == "P":
        image = image.resize(fit(image.size, side * 4), Image.Resampling.NEAREST)
    transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
    wanted = "RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB"
    return _as_mode(image, wanted)


def _choose_draft(factor: int) -> int:
    return max(step for step in (1, 2, 4, 8) if step <= factor)


def _draft_size(size: Size, factor: int | None) -> Size | None:
    return None if factor is None else (max(1, size[0] // factor), max(1, size[1] // factor))


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _composite_on_white(color: Image.Image, alpha: Image.Image | None) -> Image.Image:
    white = Image.new(color.mode, color.size, 255 if color.mode == "L" else (255, 255, 255))
    return Image.composite(color, white, alpha) if alpha is not None else color
