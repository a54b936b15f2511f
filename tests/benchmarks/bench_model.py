"""Benchmark: a detector from JPEG to detections, against Ultralytics and plain ONNX Runtime.

`python -m tests.benchmarks.bench_model [--pictures 200] [--only model.yolo]`

YOLO11 nano at 640 with random weights, whose scores are set so that some dozens of boxes are sure enough.
Ultralytics does what it does by default with a checkpoint: it decodes with OpenCV, fits the picture into the
smallest rectangle of its stride's multiples, and runs torch. Ours is converted as an upload is.
"""

from __future__ import annotations

import argparse
import copy
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

# One thread for numpy. It is read when numpy is first imported.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
from PIL import Image

from tests.benchmarks.pictures import encode_picture, load_pictures
from tests.workers.families.models import build
from workers import devices, engine
from workers.bundle import FolderModel, write
from workers.cache import Cache
from workers.checkpoints.open import open_upload
from workers.families.yolo import convert as yolo
from workers.inference.sessions import get_session
from workers.media.picture import Picture
from workers.plugin import Context, Model
from workers.recipe import Recipe
from workers.vision.detect import Detector, choose_place
from workers.vision.letterbox import Letterbox

NAMES = ("model.yolo", "model.overhead", "model.cold")
SIDE, STRIDE, CLASSES = 640, 32, 80
SLOTS = 2
SMALL = (640, 424)
# Pictures that both sides do in turn where each keeps all cores busy.
TURN = 20
_CANDIDATES = 60
_CONFIDENCE, _IOU = 0.25, 0.7

Job = Callable[[bytes], int]


# --- The other side.


def make_network(sample: bytes) -> Any:
    """A network that is sure of some dozens of boxes in a picture like the sample."""
    import torch

    network = build("yolo11n", "detect", CLASSES)
    picture = Picture.open(sample)
    pixels = Letterbox.fit((picture.width, picture.height), (SIDE, SIDE), STRIDE).fill(picture)
    with torch.no_grad():
        scores = network(torch.from_numpy(pixels))[0][0, 4:].amax(0)
    wanted = torch.logit(scores.sort(descending=True).values[_CANDIDATES])
    with torch.no_grad():
        for layers in network.model[-1].cv3:
            layers[-1].bias += np.log(_CONFIDENCE / (1 - _CONFIDENCE)) - wanted
    network.names = {index: f"class {index}" for index in range(CLASSES)}
    network.args = {"imgsz": SIDE, "task": "detect"}
    return network


def ultralytics_job(network: Any, threads: int) -> Job:
    """JPEG to boxes in the picture's pixels, by Ultralytics' parts in its predictor's order."""
    import cv2
    import torch
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    letterbox = LetterBox((SIDE, SIDE), auto=True, stride=STRIDE)

    def run(data: bytes) -> int:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        fitted = letterbox(image=image)[..., ::-1].transpose(2, 0, 1)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(fitted))[None].float() / 255
            rows = non_max_suppression(network(pixels), _CONFIDENCE, _IOU, max_det=300)[0]
            rows[:, :4] = scale_boxes(pixels.shape[2:], rows[:, :4], image.shape)
        return len(rows.tolist())

    return run


# --- Our side: the engine, as workers run it.


def convert(network: Any, folder: Path) -> FolderModel:
    """An upload's whole way, but for the sandbox."""
    import torch

    path, made = folder / "best.pt", folder / "model"
    torch.save({"model": network}, path)
    made.mkdir()
    write(yolo.convert(open_upload(path)), made)
    return FolderModel(made)


def our_job(model: Model) -> Job:
    recipe = Recipe.single("yolo", {"result": "data"}, weights=model.key)
    context = Context(models={model.key: model}, memo=Cache())

    def run(data: bytes) -> int:
        made = engine.run(recipe, data, context, with_thumbnail=False)
        assert isinstance(made.data, dict)
        return len(made.data["predictions"])

    return run


_slot: Job | None = None


def _start_slot(folder: str) -> None:
    global _slot
    devices.reuse_pixel_memory(4)
    _slot = our_job(FolderModel(Path(folder)))


def _run_in_slot(path: str) -> float:
    """Return the CPU seconds that it took."""
    assert _slot is not None
    begun = time.process_time()
    _slot(Path(path).read_bytes())
    return time.process_time() - begun


# --- Measuring.


def main(argv: list[str] | None = None) -> int:
    """Print a row for each comparison; 1 where one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--only", action="append", choices=NAMES)
    options = parser.parse_args(argv)
    paths = load_pictures(options.pictures)
    network = make_network(paths[0].read_bytes())
    fused = copy.deepcopy(network).fuse(verbose=False)
    baseline = {threads: ultralytics_job(fused, threads) for threads in (1, SLOTS)}
    with tempfile.TemporaryDirectory() as folder:
        model = convert(network, Path(folder))
        rows: Mapping[str, Callable[[], bool]] = {
            "model.yolo": lambda: _compare_systems(baseline, model, paths),
            "model.overhead": lambda: _compare_overhead(model, paths),
            "model.cold": lambda: _show_cold(model, paths[0]),
        }
        met = [rows[name]() for name in options.only or NAMES]
    return 0 if all(met) else 1


def _compare_systems(baseline: dict[int, Job], model: FolderModel, paths: Sequence[Path]) -> bool:
    """All cores: Ultralytics with as many threads as there are slots, ours with a process a slot."""
    with multiprocessing.get_context("spawn").Pool(SLOTS, _start_slot, (str(model.folder),)) as pool:
        _run_pool(pool, paths[: 2 * SLOTS])
        _run_alone(baseline[SLOTS], paths[:2])
        turns = [paths[at : at + TURN] for at in range(0, len(paths) - TURN + 1, TURN)]
        pairs = [(_run_alone(baseline[SLOTS], turn), _run_pool(pool, turn)) for turn in turns]
    ours = our_job(model)
    single = [_time_pair(baseline[1], ours, path.read_bytes(), turn) for turn, path in enumerate(paths[:41])]
    ratio, said = _summarise(pairs, f"ultralytics, {SLOTS} threads,", TURN)
    met = _print("model.yolo", ratio, 1.7, f"{said}, {SLOTS} cores")
    ratio, said = _summarise(single[1:], "ultralytics")
    _print("model.yolo.thread", ratio, None, f"{said}, 1 core")
    return met


def _compare_overhead(model: Model, paths: Sequence[Path]) -> bool:
    """One thread: the network alone, on an input that is ready, against everything.

    Its target is held to on pictures no larger than what the network sees. What one of 4 megapixels costs
    beyond the network is nearly all the decoding of its bytes, which no reduction saves. So those are shown
    too, with the ratio that would be left if there were nothing else: the network and Pillow's decoding.
    """
    bare, ours = _network_job(model), our_job(model)
    devices.reuse_pixel_memory(4)
    small = [encode_picture(seed, SMALL) for seed in range(len(paths))]
    large = [path.read_bytes() for path in paths]
    met = _print("model.overhead", *_compare_jobs(bare, ours, small, 0.85))
    _print("model.overhead.large", *_compare_jobs(bare, ours, large))
    _print("model.overhead.least", *_compare_jobs(bare, lambda data: _decode(data) + bare(data), large))
    return met


def _network_job(model: Model) -> Job:
    """The network alone, in the rectangle of these pictures: all have the same sides."""
    # In this process, as a user would run it.
    session = get_session(Context(model=model, memo=Cache(), is_shut_in=True))
    picture = Picture.open(encode_picture(0, SMALL))
    pixels = choose_place(picture, session, Detector.of(model.facts), 0).fill(picture)
    return lambda _: len(session.run(pixels))


def _decode(data: bytes) -> int:
    """A JPEG by Pillow alone, reduced while it is decoded as far as the network's input allows."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (SIDE, SIDE * SMALL[1] // SMALL[0]))
        image.load()
        return image.width


def _compare_jobs(
    theirs: Job, ours: Job, pictures: Sequence[bytes], target: float | None = None
) -> tuple[float, float | None, str]:
    pairs = [_time_pair(theirs, ours, data, turn) for turn, data in enumerate([pictures[0], *pictures])]
    ratio, said = _summarise(pairs[1:], "session.run")
    return ratio, target, said


def _show_cold(model: Model, path: Path) -> bool:
    """The first picture of a model that is not loaded yet, in a process that has loaded ONNX Runtime."""
    data = path.read_bytes()
    our_job(model)(data)
    firsts, seconds = [], []
    for _ in range(5):
        job = our_job(model)
        firsts.append(_time(job, data)[0])
        seconds.append(_time(job, data)[0])
    first, second = (statistics.median(times) * 1000 for times in (firsts, seconds))
    return _print("model.cold", first / second, None, f"first {first:.0f} ms  second {second:.0f} ms")


# Wall and CPU seconds.
Timing = tuple[float, float]


def _run_alone(job: Job, paths: Sequence[Path]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        job(path.read_bytes())
    return time.perf_counter() - wall, time.process_time() - cpu


def _run_pool(pool: Pool, paths: Sequence[Path]) -> Timing:
    begun = time.perf_counter()
    cpu = sum(pool.map(_run_in_slot, [str(path) for path in paths], chunksize=1))
    return time.perf_counter() - begun, cpu


def _time(job: Job, data: bytes) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    job(data)
    return time.perf_counter() - wall, time.process_time() - cpu


Pair = tuple[Timing, Timing]


def _time_pair(theirs: Job, ours: Job, data: bytes, turn: int) -> Pair:
    """Who goes first alternates."""
    if turn % 2:
        mine = _time(ours, data)
        return _time(theirs, data), mine
    return _time(theirs, data), _time(ours, data)


def _summarise(pairs: Sequence[Pair], name: str, pictures: int = 1) -> tuple[float, str]:
    """Return the ratio of the times; and to be shown, that of CPU seconds, and milliseconds a picture."""
    wall, cpu = (statistics.median(theirs[i] / ours[i] for theirs, ours in pairs) for i in (0, 1))
    times = [statistics.median(pair[side][0] for pair in pairs) / pictures * 1000 for side in (0, 1)]
    shown = f"cpu {cpu:5.2f}  {name} {times[0]:.1f} ms  ours {times[1]:.1f} ms  n={len(pairs) * pictures}"
    return wall, shown


def _print(name: str, ratio: float, target: float | None, said: str) -> bool:
    met = target is None or ratio >= target
    verdict = "(shown only)" if target is None else f">= {target:g} {'ok' if met else 'MISSED'}"
    print(f"{name:<20} {ratio:5.2f}  {verdict:<13} {said}", flush=True)
    return met


if __name__ == "__main__":
    sys.exit(main())
