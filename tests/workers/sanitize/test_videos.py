"""Clean copies of videos: the same frames at the same places, and nothing that tells where and by whom."""

from __future__ import annotations

import io
import random
import struct
import time
from collections.abc import Callable

import av
import numpy as np
import pytest

from tests.workers.media.test_header_limits import box
from tests.workers.media.videos import video_bytes
from workers.formats.byte_source import FormatError
from workers.sanitize.copy_plan import Clean
from workers.sanitize.images import clean_copy

SECRET = b"SECRET-TRAIL"
TOLD = {"title": "SECRET-TRAIL", "comment": "SECRET-TRAIL", "location": "+48.8500+002.3500/"}
TOLD["creation_time"] = "2024-05-06T07:08:09Z"
TRACES = (SECRET, b"48.85", b"2024-05", b"Lavf", b"VideoHandler", b"SoundHandler", b"\xa9xyz", b"loci")


def film(format: str = "mp4", movflags: str = "", **options: object) -> bytes:
    flags = {"movflags": movflags} if movflags else {}
    return video_bytes(format, sound=True, metadata=TOLD, options=flags, **options)


def plan_of(data: bytes) -> tuple[Clean, io.BytesIO]:
    stream = io.BytesIO(data)
    return clean_copy(stream), stream


def cleaned(data: bytes) -> bytes:
    plan, stream = plan_of(data)
    made = b"".join(plan.read(stream))
    assert len(made) == plan.size == len(data)
    return made


def frames(data: bytes, format: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what a player shows and plays."""
    with av.open(io.BytesIO(data), format=format) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
    with av.open(io.BytesIO(data), format=format) as container:
        heard = [frame.to_ndarray() for frame in container.decode(container.streams.audio[0])]
    return shown, heard


LAYOUTS = [
    ("mp4", ""),
    ("mp4", "use_metadata_tags"),
    ("mp4", "frag_keyframe+empty_moov"),
    ("mp4", "dash+frag_keyframe"),
    ("mov", ""),
    ("webm", ""),
]


@pytest.mark.parametrize(("format", "movflags"), LAYOUTS)
def test_everything_but_the_film_is_gone(format: str, movflags: str) -> None:
    before = film(format, movflags)
    after = cleaned(before)
    assert SECRET in before
    # What encoders write into the frames themselves stays with these.
    assert [trace for trace in TRACES if trace in after] == []
    with av.open(io.BytesIO(after), format=format) as container:
        told = dict(container.metadata)
        for stream in container.streams:
            told |= stream.metadata
    assert not {"title", "comment", "location", "creation_time"} & {
        name for name, text in told.items() if text
    }
    for one, other in zip(frames(before, format), frames(after, format), strict=True):
        assert len(one) == len(other) > 5
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_it_is_still_played_from_anywhere() -> None:
    data = film("mp4", codec="libx264", frames=60, fps=10)
    with av.open(io.BytesIO(cleaned(data)), format="mp4") as container:
        stream = container.streams.video[0]
        container.seek(3_000_000)
        assert next(container.decode(stream)).time <= 3.0
        assert float(container.duration) / 1_000_000 == pytest.approx(6.0, abs=0.1)


def test_times_are_gone() -> None:
    data = film("mp4")
    seconds = 2082844800 + 1714979289
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        place = cleaned(data).index(kind) + 4
        assert cleaned(data)[place + 4 : place + 12] == bytes(8), kind
    assert struct.pack(">I", seconds) in data
    assert struct.pack(">I", seconds) not in cleaned(data)


def test_the_name_of_the_camera_is_gone() -> None:
    data = film("mp4", codec="libx264")
    place = data.index(b"avc1", data.index(b"stsd")) + 4 + 42
    assert data[place : place + 32] == bytes(32)
    named = data[:place] + b"\x0dSECRET camera" + data[place + 14 :]
    assert cleaned(named) == cleaned(data)


def _with_sensor_track(data: bytes) -> bytes:
    """Turn the sound into a track of a sensor, as action cameras write their places."""
    at = data.rindex(b"soun")
    return data[:at] + b"meta" + data[at + 4 :]


def test_tracks_of_sensors_are_dropped_with_their_data() -> None:
    data = film("mp4")
    with av.open(io.BytesIO(data), format="mp4") as container:
        packets = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size > 3]
    assert packets
    assert all(packet in data for packet in packets)
    after = cleaned(_with_sensor_track(data))
    assert not any(packet in after for packet in packets)
    with av.open(io.BytesIO(after), format="mp4") as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert len(list(container.decode(video=0))) == 10
    with pytest.raises(FormatError):
        cleaned(_with_sensor_track(film("mp4", "frag_keyframe+empty_moov")))


def test_what_no_track_refers_to_is_gone() -> None:
    data = film("mp4")
    extra = box(b"mdat", SECRET * 10) + box(b"uuid", SECRET) + box(b"free", SECRET) + box(b"junk", SECRET)
    assert SECRET not in cleaned(data + extra)
    webm = film("webm")
    end = webm.index(b"\x18\x53\x80\x67")
    voided = webm[:end] + b"\xec\x8c" + SECRET + webm[end:]
    assert SECRET not in cleaned(voided)


def test_a_part_of_the_copy_is_a_part_of_it() -> None:
    plan, stream = plan_of(film("mov"))
    whole = b"".join(plan.read(stream))
    dice = random.Random(1)
    for _ in range(300):
        first, last = sorted(dice.randrange(len(whole) + 1) for _ in range(2))
        part = plan.cut(range(first, last))
        assert part.size == last - first
        assert b"".join(part.read(stream)) == whole[first:last]


@pytest.mark.parametrize(("format", "movflags"), LAYOUTS)
def test_cut_short_or_damaged_it_is_refused_or_clean(format: str, movflags: str) -> None:
    data = film(format, movflags)
    for length in range(0, len(data), max(1, len(data) // 100)):
        _refused_or_made(data[:length])
    dice = random.Random(7)
    for _ in range(200):
        mangled = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            mangled[dice.randrange(len(mangled))] = dice.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
        _refused_or_made(bytes(mangled))


def _refused_or_made(data: bytes) -> None:
    try:
        made = cleaned(data)
    except FormatError:
        return
    assert len(made) == len(data)


@pytest.mark.parametrize("count", [3_000_000, 2**32 - 1])
@pytest.mark.parametrize("kind", [b"stsz", b"stsc", b"stco"])
def test_tables_that_lie_are_refused_soon(kind: bytes, count: int) -> None:
    data = film("mp4")
    place = data.index(kind) + (12 if kind == b"stsz" else 8)
    lie = data[:place] + struct.pack(">I", count) + data[place + 4 :]
    started = time.thread_time()
    with pytest.raises(FormatError):
        cleaned(lie)
    assert time.thread_time() - started < 2


def _film_of_tracks(tracks: int, chunks: int, gap: int) -> bytes:
    """Tracks of samples of two bytes; all chunks of each lie at the same places."""
    start = box(b"ftyp", b"isom\0\0\0\0", b"isom")

    def movie(first: int) -> bytes:
        places = (np.arange(chunks) * (2 + gap) + first).astype(">u4").tobytes()
        table = box(
            b"stbl",
            box(b"stsd", bytes(8)),
            box(b"stsz", bytes(4) + struct.pack(">II", 2, chunks)),
            box(b"stsc", bytes(4) + struct.pack(">IIII", 1, 1, 1, 1)),
            box(b"stco", bytes(4) + struct.pack(">I", chunks) + places),
        )
        handler = box(b"hdlr", bytes(8) + b"vide" + bytes(12))
        return box(b"moov", box(b"trak", box(b"mdia", handler, box(b"minf", table))) * tracks)

    first = len(start) + len(movie(0)) + 8
    return start + movie(first) + box(b"mdat", bytes((2 + gap) * chunks))


def _webm_of_unknown_elements() -> bytes:
    return b"\x1aE\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xaa\x81\0" * 97_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: _film_of_tracks(8, 1_900_000, 0),
        lambda: _film_of_tracks(1, 95_000, 2),
        _webm_of_unknown_elements,
    ],
    ids=["tracks", "gaps", "elements"],
)
def test_films_that_would_take_long_are_refused_soon(make: Callable[[], bytes]) -> None:
    """It runs in web processes, for each request of a visitor."""
    stream = io.BytesIO(make())
    started = time.thread_time()
    with pytest.raises(FormatError):
        clean_copy(stream)
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(("tracks", "chunks", "gap"), [(1, 1_900_000, 0), (2, 20_000, 2)])
def test_long_films_pass(tracks: int, chunks: int, gap: int) -> None:
    data = _film_of_tracks(tracks, chunks, gap)
    assert len(cleaned(data)) == len(data)


def test_frames_outside_of_the_data_are_refused() -> None:
    data = film("mp4")
    place = data.index(b"stco") + 12
    with pytest.raises(FormatError):
        cleaned(data[:place] + struct.pack(">I", data.index(b"udta")) + data[place + 4 :])


def test_other_kinds_are_refused() -> None:
    avif = box(b"ftyp", b"avif\0\0\0\0", b"avif") + box(b"moov")
    for data in (video_bytes("matroska"), avif, b"\0\0\0\x08ftyp"):
        with pytest.raises(FormatError):
            cleaned(data)
