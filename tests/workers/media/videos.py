"""Small real videos, written here by FFmpeg."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np

CODECS = {"mp4": "mpeg4", "mov": "mpeg4", "webm": "libvpx-vp9", "matroska": "libvpx-vp9"}
_PIXELS = {"mjpeg": "yuvj420p", "rawvideo": "rgb24"}


def video_bytes(
    format: str = "mp4",
    width: int = 64,
    height: int = 48,
    *,
    frames: int = 10,
    fps: int = 5,
    codec: str = "",
    sound: bool = False,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Return a video whose frames go from dark to light, red in the upper left quarter."""
    target = io.BytesIO()
    with _priority_kept(), av.open(target, "w", format=format, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec or CODECS[format], rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, _PIXELS.get(codec, "yuv420p")
        if rotation:
            stream.set_display_rotation(rotation)
        heard = container.add_stream("libopus" if format == "webm" else "aac", rate=48_000) if sound else None
        for number in range(frames):
            pixels = np.full((height, width, 3), 40 + 15 * (number % 10), np.uint8)
            pixels[: height // 2, : width // 2] = (250, 20, 20)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if heard is not None:
            _add_sound(container, heard, frames / fps)
    return target.getvalue()


@contextmanager
def _priority_kept() -> Iterator[None]:
    """Give this thread its priority back.

    As root, SVT-AV1 makes the thread that opens it a real-time one, before which all others on the machine
    wait, and all that the process starts later inherits that.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def _add_sound(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(48_000 * seconds), 960):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def sound_bytes() -> bytes:
    """Return an MP4 without a moving picture."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        _add_sound(container, container.add_stream("aac", rate=48_000), 1.0)
    return target.getvalue()
