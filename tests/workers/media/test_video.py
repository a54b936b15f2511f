"""Facts and posters of real videos; what is damaged, huge or odd is refused or left."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import av
import numpy as np
import pytest

from tests.workers.media.samples import pixels
from tests.workers.media.videos import video_bytes
from workers.media.video import VideoError, VideoFacts, read_video

TYPES = {"mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm"}


@pytest.mark.parametrize("format", TYPES)
def test_facts_and_first_picture(format: str) -> None:
    data = video_bytes(format, 96, 64, frames=20, fps=10, sound=True)
    facts, poster = read_video(io.BytesIO(data), TYPES[format])
    sound, codec = ("opus", "vp9") if format == "webm" else ("aac", "mpeg4")
    assert facts == VideoFacts(96, 64, codec, facts.duration, 10.0, sound)
    assert facts.duration == pytest.approx(2.0, abs=0.1)
    assert poster is not None
    assert poster.size == (96, 64)
    assert np.abs(pixels(poster)[8, 8] - [250, 20, 20]).max() < 12
    assert np.abs(pixels(poster)[50, 80] - 40).max() < 12


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "mjpeg"])
def test_what_phones_and_editors_write(codec: str) -> None:
    facts, poster = read_video(io.BytesIO(video_bytes("mp4", codec=codec)), "video/mp4")
    assert (facts.width, facts.height) == (64, 48)
    assert facts.codec in ("h264", "hevc", "av1", "mjpeg")
    assert poster is not None
    assert np.abs(pixels(poster)[8, 8] - [250, 20, 20]).max() < 30


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (-90, (-1, 0))])
def test_films_held_sideways_are_upright(degrees: int, corner: tuple[int, int]) -> None:
    """The corner, as (x, y), in which the red quarter ends; counter-clockwise as FFmpeg counts."""
    data = video_bytes("mp4", codec="libx264", rotation=degrees)
    facts, poster = read_video(io.BytesIO(data), "video/mp4")
    assert (facts.width, facts.height) == ((48, 64) if degrees in (90, -90) else (64, 48))
    assert poster is not None
    assert poster.size == (facts.width, facts.height)
    x, y = (4 if place == 0 else size - 5 for place, size in zip(corner, poster.size, strict=True))
    assert np.abs(pixels(poster)[y, x] - [250, 20, 20]).max() < 30
    assert sum(np.abs(pixels(poster)[b, a] - [250, 20, 20]).max() < 30 for a in (4, -5) for b in (4, -5)) == 1


def test_frames_larger_than_pictures_may_be_are_refused() -> None:
    data = video_bytes("mp4", codec="libx264")
    entry = struct.pack(">HH", 64, 48)
    place = data.index(b"avc1", data.index(b"stsd")) + 28
    assert data[place : place + 4] == entry
    claim = data[:place] + struct.pack(">HH", 60_000, 60_000) + data[place + 4 :]
    # What the frames themselves say counts where it is known; nobody has allocated the claim.
    with contextlib.suppress(VideoError):
        facts, _poster = read_video(io.BytesIO(claim), "video/mp4")
        assert (facts.width, facts.height) == (64, 48)
    large = video_bytes("mp4", 8192, 6400, codec="mjpeg", frames=1)
    with pytest.raises(VideoError, match="too large: 8192 × 6400 pixels"):
        read_video(io.BytesIO(large), "video/mp4")


def test_codecs_outside_the_list_are_not_decoded() -> None:
    facts, poster = read_video(io.BytesIO(video_bytes("mov", codec="rawvideo")), "video/quicktime")
    assert (facts, poster) == (VideoFacts(64, 48, "rawvideo", 2.0, 5.0), None)
    nobodys = video_bytes("mp4", codec="libx264").replace(b"avc1", b"zzz1")
    facts, poster = read_video(io.BytesIO(nobodys), "video/mp4")
    assert (facts, poster) == (VideoFacts(duration=2.0), None)


@pytest.mark.parametrize("format", TYPES)
def test_damage_never_escapes_as_another_error(format: str) -> None:
    whole = video_bytes(format, sound=True)
    dice = random.Random(3)
    for _ in range(80):
        broken = bytearray(whole)
        for _ in range(6):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        with contextlib.suppress(VideoError):
            read_video(io.BytesIO(bytes(broken)), TYPES[format])
    for length in range(0, len(whole), len(whole) // 40):
        with contextlib.suppress(VideoError):
            read_video(io.BytesIO(whole[:length]), TYPES[format])


def test_no_other_reader_sees_the_bytes() -> None:
    """FFmpeg would open a playlist's addresses, and a script's files."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    for data in (playlist, b"ffconcat version 1.0\nfile /etc/passwd\n", video_bytes("matroska")):
        with pytest.raises(VideoError):
            read_video(io.BytesIO(data), "video/mp4")


def test_the_storage_failing_is_not_the_videos_fault() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("gone")

    with pytest.raises(OSError, match="gone") as caught:
        read_video(Failing(video_bytes()), "video/mp4")
    assert not isinstance(caught.value, av.FFmpegError)
