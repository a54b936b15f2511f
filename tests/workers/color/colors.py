"""Images whose files name a color space: by ICC profiles, chunks of PNG, or boxes of AVIF."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from tests.workers.media.samples import encode, png_chunk
from workers.color.cicp import PRIMARIES, SRGB_CURVE, gamma_curve
from workers.color.icc import D50, find_colorants, read_tags, write_gray_profile, write_rgb_profile

WIDTH, HEIGHT = 64, 48

LINEAR = write_rgb_profile(PRIMARIES[1], gamma_curve(1.0))
DISPLAY_P3 = write_rgb_profile(PRIMARIES[12], SRGB_CURVE)
PROPHOTO = write_rgb_profile(
    (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), gamma_curve(1.8)
)
GRAY_LINEAR = write_gray_profile(gamma_curve(1.0))
GRAY_22 = write_gray_profile(gamma_curve(2.2))


def draw_colors() -> np.ndarray:
    """Red to the right, green downwards, blue in squares; grays along the top. Shape (48, 64, 3), uint8."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    colors = np.stack([255 * x / 63, 255 * y / 47, np.where((x // 8 + y // 8) % 2, 220, 30)], axis=-1)
    colors[:8] = 255 * x[:8, :, None] / 63
    return np.rint(colors).astype(np.uint8)


def draw_grays() -> np.ndarray:
    """Return a ramp of shape (48, 64), uint16, with many dark tones."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.rint(65535 * ((x + y) / 110) ** 2).astype(np.uint16)


def gamma(value: int) -> bytes:
    """Return a gAMA chunk: 100,000 times the encoding exponent."""
    return png_chunk(b"gAMA", struct.pack(">I", value))


def chromaticities(primaries: int) -> bytes:
    """Return a cHRM chunk with the primaries of a code point."""
    values = (round(100_000 * value) for value in PRIMARIES[primaries])
    return png_chunk(b"cHRM", struct.pack(">8I", *values))


def code_points(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> bytes:
    """Return a cICP chunk."""
    return png_chunk(b"cICP", bytes([primaries, transfer, matrix, full_range]))


def profile_chunk(profile: bytes) -> bytes:
    """Return an iCCP chunk."""
    return png_chunk(b"iCCP", b"named sRGB\0\0" + zlib.compress(profile))


def add_code_points(profile: bytes, primaries: int, transfer: int) -> bytes:
    """Return a profile with a tag of these code points: ICC.1:2022, 9.2.17."""
    tags = {**read_tags(profile), b"cicp": b"cicp\0\0\0\0" + bytes([primaries, transfer, 0, 1])}
    table, bodies, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += struct.pack(">4sII", name, start + len(bodies), len(body))
        bodies += body
    whole = profile[4:8] + b"\4\x40\0\0" + profile[12:128] + table + bodies
    return struct.pack(">I", 4 + len(whole)) + whole


SRGB_CHUNK = png_chunk(b"sRGB", b"\0")
_COLOR_TYPES = {"L": 0, "RGB": 2, "P": 3, "LA": 4, "RGBA": 6}


def make_png(kind: str, chunks: bytes, deep: np.ndarray | None = None) -> bytes:
    """Return a PNG of the drawing: kind is L, RGB, P, LA or RGBA, with 16 behind it for 16 bits.

    Args:
        deep: 16-bit colors to draw instead, of shape (48, 64, 3).
    """
    mode, depth = (kind[:-2], 16) if kind.endswith("16") else (kind, 8)
    samples, palette = _take_samples(mode)
    if depth == 16:
        samples = draw_grays() if mode == "L" else samples.astype(np.uint16) * 257
    if deep is not None:
        samples[..., :3] = deep
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, _COLOR_TYPES[mode], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            png_chunk(b"IHDR", header),
            chunks,
            png_chunk(b"PLTE", palette) if palette else b"",
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        )
    )


def _take_samples(mode: str) -> tuple[np.ndarray, bytes]:
    colors = draw_colors()
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    if mode == "P":
        quantized = Image.fromarray(colors).quantize(64)
        return np.asarray(quantized), bytes((quantized.getpalette() or [])[: 3 * 64])
    grays = (draw_grays() // 257).astype(np.uint8)[..., None]
    parts = {"L": [grays], "LA": [grays, alpha], "RGB": [colors], "RGBA": [colors, alpha]}
    return np.concatenate(parts[mode], axis=-1), b""


def make_avif(primaries: int, transfer: int, image: Image.Image | None = None) -> bytes:
    """Return an AVIF whose colr box has these code points."""
    data = bytearray(encode(image or Image.fromarray(draw_colors()), "AVIF", **AVIF_SETTINGS))
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


AVIF_SETTINGS = {"speed": 10, "quality": 95, "subsampling": "4:4:4"}
_DESCRIBED = "1" + f"{1:08b}{13:08b}{6:08b}"


def make_avif_without_box(primaries: int, transfer: int) -> bytes:
    """Return an AVIF without a colr box: only its bitstream describes the colors."""
    data = encode(Image.fromarray(draw_colors()), "AVIF", **AVIF_SETTINGS).replace(b"colrnclx", b"freenclx")
    bits = "".join(f"{byte:08b}" for byte in data)
    assert bits.count(_DESCRIBED) >= 1
    bits = bits.replace(_DESCRIBED, "1" + f"{primaries:08b}{transfer:08b}{6:08b}")
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


# --- Profiles of tables: ICC.1:2022, 10.10.


def make_table_profile(space: bytes, channels: int) -> bytes:
    """Return a profile whose colors come from a table alone, for RGB or CMYK."""
    grid = 9
    axes = np.meshgrid(*[np.linspace(0, 1, grid)] * channels, indexing="ij")
    points = np.stack(axes, axis=-1).reshape(-1, channels)
    light = points[:, [1, 2, 0]] ** 1.9 if channels == 3 else (1 - points[:, :3]) * (1 - points[:, 3:])
    xyz = (0.03 + 0.9 * light) @ find_colorants(PRIMARIES[1]).T / np.array(D50)
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack(
        [116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1
    )
    codes = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=1)
    line = struct.pack(">HH", 0, 65535)
    table = struct.pack(
        ">4s4xBBBx9iHH", b"mft2", channels, 3, grid, *np.eye(3, dtype=int).ravel() * 65536, 2, 2
    )
    table += line * channels + np.clip(np.rint(codes), 0, 65535).astype(">u2").tobytes() + line * 3
    profile = bytearray(write_gray_profile(gamma_curve(1.0))[:128])
    profile[12:24] = b"scnr" + space + b"Lab "
    body = struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    return struct.pack(">I", 128 + len(body)) + bytes(profile[4:]) + body
