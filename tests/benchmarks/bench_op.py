"""Benchmark: operations and thumbnails against plain Pillow.

`python -m tests.benchmarks.bench_op [--pictures 200] [--only op.mosaic]`
"""

from __future__ import annotations

import argparse
import io
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One thread for both sides. numpy reads this when it is first imported.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tests.benchmarks.pictures import load_pictures
from workers import devices, engine
from workers.recipe import Recipe

Job = Callable[[bytes], object]


# --- The other side. Same encoder settings as ours, so that only the work before differs.


def _save(image: Image.Image, format: str, **settings: object) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **settings)
    return target.getvalue()


def _save_jpeg(image: Image.Image) -> bytes:
    return _save(image, "JPEG", quality=90)


def naive_blackwhite(data: bytes) -> bytes:
    return _save_jpeg(Image.open(io.BytesIO(data)).convert("L"))


def naive_pixelart(data: bytes, block: int = 12, colors: int = 16) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    small = image.resize(_count(image, block), Image.Resampling.BOX).quantize(colors)
    return _save(small.resize(image.size, Image.Resampling.NEAREST), "PNG", compress_level=1)


def naive_blocks(data: bytes, block: int = 24) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    small = image.resize(_count(image, block), Image.Resampling.BOX)
    return _save_jpeg(small.resize(image.size, Image.Resampling.NEAREST))


def naive_photo(data: bytes, tile: int = 32, adaption: float = 0.5, radius: int = 2) -> bytes:
    """Mean colors only, where ours compares nine parts of each tile."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    columns, rows = _count(image, tile)
    sheet = image.resize((20 * tile, 13 * tile), Image.Resampling.BOX)
    tiles = [
        sheet.crop((x, y, x + tile, y + tile))
        for y in range(0, 13 * tile, tile)
        for x in range(0, 20 * tile, tile)
    ]
    means = np.array([np.asarray(tile).mean(axis=(0, 1)) for tile in tiles])
    cells = np.asarray(image.resize((columns, rows), Image.Resampling.BOX)).astype(float)
    out = Image.new("RGB", image.size)
    used = np.full((rows, columns), -1)
    for y in range(rows):
        for x in range(columns):
            near = used[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            distance = ((means - cells[y, x]) ** 2).sum(axis=1)
            distance[near[near >= 0]] = np.inf
            used[y, x] = distance.argmin()
            out.paste(tiles[used[y, x]], (x * tile, y * tile))
    wanted = Image.fromarray(cells.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return _save_jpeg(Image.blend(out, wanted, adaption))


def naive_ascii(data: bytes, columns: int = 120) -> tuple[bytes, str]:
    signs = "@%#*+=-:. "
    image = Image.open(io.BytesIO(data)).convert("L")
    rows = round(columns * image.height / image.width * 9 / 16)
    tones = np.asarray(image.resize((columns, rows), Image.Resampling.BOX))
    text = "\n".join("".join(signs[tone * 10 // 256] for tone in row) for row in tones.tolist())
    drawn = Image.new("L", (columns * 9, rows * 16), 255)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    for row, line in enumerate(text.split("\n")):
        draw.text((0, row * 16), line, fill=0, font=font)
    return _save(drawn, "PNG", compress_level=1), text


def naive_thumbnail(data: bytes, side: int = 256) -> bytes:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return _save(image.resize(size, Image.Resampling.LANCZOS), "WEBP", quality=80, method=2)


def pillow_thumbnail(data: bytes, side: int = 256) -> bytes:
    """Pillow's own method, which reduces while decoding just as ours does."""
    image = Image.open(io.BytesIO(data))
    image.thumbnail((side, side))
    return _save(ImageOps.exif_transpose(image).convert("RGB"), "WEBP", quality=80, method=2)


def _count(image: Image.Image, cell: int) -> tuple[int, int]:
    return math.ceil(image.width / cell), math.ceil(image.height / cell)


# --- Our side: the engine, as workers run it.


def _ours(operation: str, **params: object) -> Job:
    recipe = Recipe.single(operation, params)

    def run(data: bytes) -> object:
        return engine.run(recipe, data, with_thumbnail=False)

    return run


ROWS: dict[str, tuple[Job, Job, float | None]] = {
    "op.blackwhite": (naive_blackwhite, _ours("blackwhite"), 1.3),
    "op.pixelart": (naive_pixelart, _ours("pixelart"), 1.3),
    "op.mosaic": (naive_blocks, _ours("mosaic", mode="blocks"), 1.3),
    "op.mosaic.photo": (naive_photo, _ours("mosaic"), 1.3),
    "op.ascii": (naive_ascii, _ours("ascii"), 2.0),
    "thumbnail": (naive_thumbnail, engine.thumbnail, 1.8),
    "thumbnail.draft": (pillow_thumbnail, engine.thumbnail, None),
}


def main(argv: list[str] | None = None) -> int:
    """Print a row for each comparison; 1 where one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", action="append", choices=sorted(ROWS))
    options = parser.parse_args(argv)
    paths = load_pictures(options.pictures)
    missed = 0
    for name in options.only or ROWS:
        missed += not _measure(name, paths)
    return 1 if missed else 0


def _measure(name: str, paths: list[Path]) -> bool:
    bare, ours, target = ROWS[name]
    _warm(bare, ours, paths[0].read_bytes())
    pairs = [_time_pair(bare, ours, path.read_bytes(), turn % 2) for turn, path in enumerate(paths)]
    ratio = statistics.median(theirs[0] / mine[0] for theirs, mine in pairs)
    cpu = statistics.median(theirs[1] / mine[1] for theirs, mine in pairs)
    times = " ".join(
        f"{side} {statistics.median(pair[index][0] for pair in pairs) * 1000:.1f} ms"
        for index, side in enumerate(("bare", "ours"))
    )
    met = target is None or ratio >= target
    verdict = "(shown only)" if target is None else f">= {target:g} {'ok' if met else 'MISSED'}"
    print(f"{name:<16} {ratio:5.2f}  {verdict:<13} cpu {cpu:5.2f}  {times}  n={len(pairs)}", flush=True)
    return met


def _warm(bare: Job, ours: Job, data: bytes) -> None:
    for _ in range(2):
        bare(data)
        ours(data)


Timing = tuple[float, float]


def _time_pair(bare: Job, ours: Job, data: bytes, swapped: int) -> tuple[Timing, Timing]:
    """Wall and CPU seconds of both on one picture; who goes first alternates."""
    if swapped:
        mine, theirs = _time(ours, data, 4), _time(bare, data, 0)
    else:
        theirs, mine = _time(bare, data, 0), _time(ours, data, 4)
    return theirs, mine


def _time(job: Job, data: bytes, blocks: int) -> Timing:
    """Ours keeps pixel memory between pictures, as worker processes do; bare Pillow does not."""
    devices.reuse_pixel_memory(blocks)
    wall, cpu = time.perf_counter(), time.process_time()
    job(data)
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    sys.exit(main())
