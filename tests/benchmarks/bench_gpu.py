"""Benchmark: models on a GPU, from JPEG to the encoded result, for single images and batches.

`python -m tests.benchmarks.bench_gpu [--device cuda] [--pictures 300] [--threads 8] [--only gpu.yolo]`

Networks with random weights: YOLO11 nano at 640, and a ResNet generator as CycleGAN's at 512. Each is run by
the engine as workers run it; ONNX Runtime on one core is what a slot without a GPU does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np

from tests.benchmarks.pictures import load_pictures
from tests.workers.families.gan import generators
from tests.workers.families.gan.layers import upload_of
from tests.workers.families.yolo import checkpoints
from workers import bundle, devices, engine, registry
from workers.bundle import FolderModel
from workers.cache import Cache
from workers.checkpoints.open import open_upload
from workers.inference import torch_sessions
from workers.inference.sessions import get_session
from workers.media.picture import Picture
from workers.plugin import Context
from workers.recipe import Recipe
from workers.vision.letterbox import Letterbox

NAMES = ("gpu.yolo", "gpu.generator")
SIDE = 640
WORKING = 512
# Runs of the processor take long: so few are enough to tell its pace.
ON_PROCESSOR = 8
# Different pictures. Nothing remembers any, so the others are these again.
DRAWN = 16
Job = Callable[[bytes], Any]


def main(argv: list[str] | None = None) -> int:
    """Print a row for each model and way to run it. Without a GPU there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--only", action="append", choices=NAMES)
    options = parser.parse_args(argv)
    if options.device == "cuda" and not _has_cuda():
        print("gpu                no GPU that torch can use: nothing was measured")
        return 0
    devices.reuse_pixel_memory(4)
    drawn = [path.read_bytes() for path in load_pictures(DRAWN)]
    pictures = [drawn[number % DRAWN] for number in range(options.pictures)]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or NAMES:
            _compare(name, _MODELS[name](Path(folder) / name), pictures, options.device, options.threads)
    return 0


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


# --- What is run.


def _make_detector(folder: Path) -> tuple[FolderModel, dict[str, Any]]:
    network = checkpoints.make_model("yolo11n")
    folder.mkdir()
    path = checkpoints.save(network, folder.with_suffix(".pt"), train_args={"imgsz": SIDE})
    bundle.write(registry.get("yolo").convert(open_upload(path)), folder)
    return FolderModel(folder), {}


def _make_generator(folder: Path) -> tuple[FolderModel, dict[str, Any]]:
    folder.mkdir()
    sample = generators.resnet(blocks=9, features=64)
    bundle.write(registry.get("gan").convert(upload_of(sample.state)), folder)
    return FolderModel(folder), {"size": WORKING}


_MODELS = {"gpu.yolo": _make_detector, "gpu.generator": _make_generator}


# --- How.


def _compare(
    name: str, made: tuple[FolderModel, dict[str, Any]], pictures: Sequence[bytes], device: str, threads: int
) -> None:
    model, settings = made
    recipe = Recipe.single(model.facts["family"], settings, weights=model.key)
    memo = Cache()

    def context_of(where: str, together: int = 1) -> Context:
        return Context(device=where, models={model.key: model}, memo=memo, together=lambda: together)

    def job_of(context: Context) -> Job:
        return lambda data: engine.run(recipe, data, context)

    begun = time.perf_counter()
    engine.load_models(recipe, context_of(device))
    loaded = time.perf_counter() - begun
    network = torch_sessions.get_loaded(context_of(device), model).network
    print(f"{name:<18} loaded in {loaded:.2f} s, {network.dtype}, {network.size / 2**20:.1f} MiB there")
    on_cpu = _in_turn(job_of(context_of("cpu")), pictures[:ON_PROCESSOR])
    _print(name, "processor, 1 thread", on_cpu, 1.0)
    one = _in_turn(job_of(context_of(device)), pictures[: len(pictures) // 2])
    _print(name, f"{device}, one at a time", one, one / on_cpu)
    for number in sorted({2, 4, threads}):
        sizes: list[int] = []
        with _noting_batches(network, sizes):
            many = _at_once(job_of(context_of(device, number)), pictures, number)
        said = f"batches of {statistics.mean(sizes):.1f}"
        _print(name, f"{device}, {number} threads", many, many / on_cpu, said)
    _show_network(name, model, memo, device, pictures[0])
    _show_memory(name)


def _in_turn(job: Job, pictures: Sequence[bytes]) -> float:
    """Return pictures a second."""
    job(pictures[0])
    begun = time.perf_counter()
    for data in pictures:
        job(data)
    return len(pictures) / (time.perf_counter() - begun)


def _at_once(job: Job, pictures: Sequence[bytes], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(job, pictures[: 2 * threads]))
        begun = time.perf_counter()
        list(pool.map(job, pictures))
        return len(pictures) / (time.perf_counter() - begun)


class _noting_batches:
    """Notes how many pictures each batch has."""

    def __init__(self, network: Any, sizes: list[int]) -> None:
        self.hook = network._module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def _show_network(name: str, model: FolderModel, memo: Cache, device: str, picture: bytes) -> None:
    """The network alone by batch, and how far its outputs lie from ONNX Runtime's on a photograph."""
    opened = Picture.open(picture)
    side = SIDE if name == "gpu.yolo" else WORKING
    pixels = Letterbox.fit((opened.width, opened.height), (side, side)).fill(opened)
    wanted = get_session(Context(device="cpu", model=model, memo=memo)).run(pixels)
    found = get_session(Context(device=device, model=model, memo=memo)).run(pixels)
    apart = torch_sessions.measure_difference(found, wanted, model.facts["layout"])
    most = max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(found, wanted, strict=True))
    print(f"{name:<18} outputs differ by {most:.4g} at most, {apart:.4g} of one more than their size")
    network = torch_sessions.get_loaded(Context(device=device, model=model, memo=memo), model).network
    for count in (1, 4, 8, 16):
        inputs = [network.enter(pixels) for _ in range(count)]
        network.finish(network.start(inputs))
        times, launches = [], []
        for _ in range(15):
            begun = time.perf_counter()
            started = network.start(inputs)
            launches.append(time.perf_counter() - begun)
            network.finish(started)
            times.append(time.perf_counter() - begun)
        each, launch = (statistics.median(spent) * 1000 for spent in (times, launches))
        print(f"{name:<18} network, batch of {count:>2}: {each:6.2f} ms, launched in {launch:.2f} ms")


def _show_memory(name: str) -> None:
    status = Path("/proc/self/status").read_text()
    kinds = ("VmSize", "VmData", "VmRSS")
    told = [f"{kind} {int(status.partition(f'{kind}:')[2].split()[0]) / 2**20:.1f} GiB" for kind in kinds]
    print(f"{name:<18} memory: {'  '.join(told)}")


def _print(name: str, how: str, pace: float, ratio: float, said: str = "") -> None:
    print(f"{name:<18} {how:<24} {pace:8.1f} pictures/s  x{ratio:.1f}  {said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
