"""Read facts and a poster image of a video with FFmpeg. Only for workers, under their limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from PIL import Image

from workers.media.decode import LIMITS
from workers.plugin import OperationError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg's demuxer for each detected content type. No other demuxer reads the bytes.
_READERS = {"video/mp4": "mov", "video/quicktime": "mov", "video/webm": "matroska"}
# Codecs of phones, cameras and browsers, by names of formats and decoders. FFmpeg has hundreds more.
_PICTURES = (
    "h264",
    "hevc",
    "vp8",
    "libvpx",
    "vp9",
    "libvpx-vp9",
    "av1",
    "libdav1d",
    "mpeg4",
    "mjpeg",
    "prores",
)
_SOUNDS = ("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac")
# Limits for probing frames if the header is incomplete: bytes, and microseconds.
_PROBE = {
    "probesize": "2000000",
    "analyzeduration": "2000000",
    "codec_whitelist": ",".join((*_PICTURES, *_SOUNDS)),
}
_SECONDS = 20.0
# 30 days: longer durations are not plausible.
_MOST_SECONDS = 30 * 24 * 3600.0
_MOST_PACKETS = 2000

DAMAGED = "This video is damaged and cannot be read."


class VideoError(OperationError):
    """The bytes are not an acceptable video. `code` is one of: damaged, too_large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video: upright size in pixels, `duration` in seconds. None: unknown."""

    width: int | None = None
    height: int | None = None
    codec: str = ""
    duration: float | None = None
    fps: float | None = None
    sound: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the known facts."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def read_video(stream: BinaryIO, content_type: str) -> tuple[VideoFacts, Image.Image | None]:
    """Return facts about a video, and its first key frame, upright (None if it cannot be decoded).

    Raises:
        VideoError: it cannot be read, or its frames exceed the limits of images.
    """
    with _opened(stream, content_type) as container:
        tracks = container.streams.video
        if not tracks:
            raise VideoError("damaged", DAMAGED)
        video = tracks[0]
        duration = _duration(container, video)
        if not _codec(video):
            # FFmpeg has no decoder for it; a browser may still show it.
            return VideoFacts(duration=duration), None
        _check_size(video.width, video.height)
        poster, turned = _poster(container, video) if _codec(video) in _PICTURES else (None, 0)
        size = (video.height, video.width) if turned % 180 else (video.width, video.height)
        sound = next((_codec(track) for track in container.streams.audio), "")
        facts = VideoFacts(*size, _codec(video), duration, _rate(video), sound)
    return facts, poster


@contextmanager
def _opened(stream: BinaryIO, content_type: str) -> Iterator[InputContainer]:
    import av

    stream.seek(0)
    try:
        with av.open(
            stream,
            "r",
            format=_READERS[content_type],
            options=_PROBE,
            timeout=_SECONDS,
            metadata_errors="replace",
        ) as container:
            yield container
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise VideoError("damaged", DAMAGED) from error


def _codec(track: VideoStream | AudioStream) -> str:
    """Return the codec's name, or an empty string if FFmpeg has no decoder for it."""
    context = track.codec_context
    # PyAV's type hints wrongly exclude None.
    return context.codec.canonical_name if cast(object, context) is not None else ""


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise VideoError("damaged", DAMAGED)
    if width * height > LIMITS.max_pixels or max(width, height) > LIMITS.max_side:
        raise VideoError("too_large", f"The frames of this video are too large: {width} × {height} pixels.")


def _poster(container: InputContainer, video: VideoStream) -> tuple[Image.Image | None, int]:
    """Return the first key frame, upright, and its rotation in degrees."""
    import av

    video.thread_type = "NONE"
    video.codec_context.thread_count = 1
    video.codec_context.skip_frame = "NONKEY"
    # Frames may be larger than the header states.
    video.codec_context.options = {"max_pixels": str(LIMITS.max_pixels)}
    try:
        for number, packet in enumerate(container.demux(video)):
            for frame in packet.decode():
                # Counter-clockwise, as in Pillow. Other angles than multiples of 90 are ignored.
                turned = frame.rotation if frame.rotation % 90 == 0 else 0
                pixels = Image.fromarray(frame.to_ndarray(format="rgb24"))
                return pixels.rotate(turned, expand=True), turned
            if number > _MOST_PACKETS:
                break
    except (av.FFmpegError, ValueError, MemoryError):
        # The header is valid, so the video is accepted. Pages show an icon instead of a poster.
        return None, 0
    return None, 0


def _duration(container: InputContainer, video: VideoStream) -> float | None:
    if container.duration is not None:
        seconds = container.duration / 1_000_000
    elif video.duration is not None and video.time_base is not None:
        seconds = float(video.duration * video.time_base)
    else:
        return None
    return round(seconds, 2) if 0 <= seconds <= _MOST_SECONDS else None


def _rate(video: VideoStream) -> float | None:
    rate = float(video.average_rate or 0)
    return round(rate, 2) if math.isfinite(rate) and 0 < rate <= 1000 else None
