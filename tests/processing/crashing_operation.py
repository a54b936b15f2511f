"""Operation for tests that harms its worker. The width of the image chooses how.

Real workers load it with `celery worker -I tests.processing.worker_with_crashing_operation`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from workers.plugin import Context, DeviceLost, Operation, Params, PictureView, Result
from workers.recipe import Recipe

KILLS, EATS, HANGS, BREAKS, WELL, STUCK, SLOW, VARIES, DOZES, LISTENS, LOSES, KEEPS, NEEDS = range(61, 74)
SLOW_SECONDS = 3.0
DOZE_SECONDS = 0.3
# Environment variable with the path of a log file. Each run logs the width of its image.
LOG = "POISON_LOG"
kept: list[np.ndarray] = []


class Poison(Operation[Params]):
    key = "poison"
    title = "Poison"
    summary = "Harms its worker."
    description = "For tests."
    Params = Params

    def run(self, picture: PictureView, params: Params, context: Context) -> Result:
        width = picture.width
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as log:
                log.write(f"{width}\n")
        if width == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        _take_memory(width)
        while width == HANGS:
            pass
        if width == STUCK:
            _block()
        if width == SLOW:
            time.sleep(SLOW_SECONDS)
        if width == BREAKS:
            raise ValueError("a fault of ours")
        if width == DOZES:
            time.sleep(DOZE_SECONDS)
        _harm_a_gpu(width, context)
        if width == VARIES:
            noise = np.random.default_rng().integers(0, 256, (picture.height, width, 3), dtype=np.uint8)
            return Result(Image.fromarray(noise), format="PNG")
        return Result(picture.rgb())


def _take_memory(width: int) -> None:
    if width == EATS:
        np.ones(2**40, dtype=np.uint8)
    if width == KEEPS:
        kept.append(np.ones(1100 * 2**20, dtype=np.uint8))
    if width == NEEDS:
        np.ones(800 * 2**20, dtype=np.uint8)


def _harm_a_gpu(width: int, context: Context) -> None:
    while width == LISTENS:
        context.checkpoint()
        time.sleep(0.01)
    if width == LOSES:
        time.sleep(DOZE_SECONDS)
        raise DeviceLost


def _block() -> None:
    """Block forever in one C call that no signal interrupts. It uses no processor time."""
    mutex = ctypes.create_string_buffer(64)  # all zeros: open
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


RECIPE = Recipe.single("poison").model_dump(mode="json")
