"""What a file is, its bytes say: every kind that is taken, and the lies, bombs and cuts that are not."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import time
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drive.formats.detect import DetectedType, sniff, weights_facts
from drive.models import FileKind
from ipau.common.errors import Invalid
from tests.pictures import picture_bytes
from tests.workers.checkpoints.weights_files import (
    blob,
    graph,
    legacy_torch_bytes,
    number,
    onnx_bytes,
    raw_safetensors,
    safetensors_bytes,
    safetensors_with_a_header_of,
    script_bytes,
    tensor,
    torch_bytes,
    varint,
)
from tests.workers.media.test_header_limits import box
from tests.workers.media.videos import sound_bytes, video_bytes
from workers.checkpoints.safetensors_header import MOST_SNIFFED_BYTES

PICTURES = {f: picture_bytes(f) for f in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")}
VIDEOS = {f: video_bytes(f) for f in ("mp4", "mov", "webm")}
WEIGHTS = {"pt": torch_bytes(), "onnx": onnx_bytes(), "safetensors": safetensors_bytes()}
TAKEN = (
    "images (JPEG, PNG, TIFF, WebP, AVIF), videos (MP4, WebM, MOV) and weights (PyTorch, ONNX, safetensors)"
)
UNKNOWN = f"This file type isn’t supported. You can upload {TAKEN}."
DAMAGED_VIDEO = "This video is damaged or incomplete. Upload it again."
DAMAGED_WEIGHTS = "These weights are damaged, or not in the format that they claim. Export them again."
CUT_SHORT = "These weights are incomplete: the end of the file is missing. Upload the whole file again."
TOO_MANY_PARTS = "This video has too many parts. Convert it to MP4 with the index at the start."
# Seconds of processor time, on a machine that does other things too.
SOON = 0.5


def found(data: bytes) -> DetectedType:
    return sniff(io.BytesIO(data))


def soon(data: bytes) -> DetectedType:
    started = time.thread_time()
    made = found(data)
    assert time.thread_time() - started < SOON
    return made


def refusal(data: bytes) -> str:
    started = time.thread_time()
    with pytest.raises(Invalid) as caught:
        found(data)
    assert time.thread_time() - started < SOON
    return str(caught.value.message)


@pytest.mark.parametrize("format", PICTURES)
def test_pictures(format: str) -> None:
    one = found(PICTURES[format])
    assert (one.kind, one.content_type) == (FileKind.PICTURE, f"image/{format.lower()}")
    assert (one.width, one.height) == (320, 240)


@pytest.mark.parametrize(
    ("format", "content_type"), [("mp4", "video/mp4"), ("mov", "video/quicktime"), ("webm", "video/webm")]
)
def test_videos(format: str, content_type: str) -> None:
    expected = DetectedType(FileKind.VIDEO, content_type, f".{format}")
    assert found(VIDEOS[format]) == expected
    assert found(video_bytes(format, sound=True)) == expected


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "dash+frag_keyframe"])
def test_videos_however_they_are_laid_out(flags: str) -> None:
    assert found(video_bytes(options={"movflags": flags})).suffix == ".mp4"


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str) -> None:
    assert found(WEIGHTS[name]) == DetectedType(FileKind.WEIGHTS, "application/octet-stream", f".{name}")


def test_weights_of_the_wider_formats() -> None:
    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w") as archive, archive.open("m/data.pkl", "w", force_zip64=True) as member:
        member.write(b"\x80\x02.")
    assert found(wide.getvalue()).suffix == ".pt"
    assert found(safetensors_bytes(format="pt")).suffix == ".safetensors"
    assert found(safetensors_with_a_header_of(640)).suffix == ".safetensors"
    assert found(onnx_bytes(extra=blob(14, blob(1, b"k"), blob(2, b"v")))).suffix == ".onnx"


# --- Other files, and lies.

OTHERS = {
    "nothing": b"\0" * 4096,
    "text": b"hello, this is text",
    "html": b"<!doctype html><script>alert(1)</script>" * 50,
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "pdf": b"%PDF-1.7\n" + b"\0" * 400,
    "program": b"\x7fELF" + b"\0" * 400,
    "json": b'{"a": 1}' * 20,
    "gif": picture_bytes("GIF"),
    "bmp": picture_bytes("BMP"),
    "avi": b"RIFF\x24\0\0\0AVI LIST" + b"\0" * 100,
    "wave": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 100,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_anything_else_is_refused_with_what_is_taken(kind: str) -> None:
    assert refusal(OTHERS[kind]) == UNKNOWN


def test_kin_of_what_is_taken_is_told_the_way_out() -> None:
    assert "Convert the image to JPEG" in refusal(
        box(b"ftyp", b"heic\0\0\0\0", b"mif1heic") + box(b"mdat", b"")
    )
    assert (
        refusal(video_bytes("matroska"))
        == "Matroska videos are not supported. Convert the video to WebM or MP4."
    )
    assert refusal(sound_bytes()) == "This file has no video track."
    assert "Convert it to MP4" in refusal(box(b"ftyp", b"3gp4\0\0\0\0", b"3gp4") + box(b"moov", b""))
    assert "PyTorch before 1.6" in refusal(legacy_torch_bytes())
    assert refusal(script_bytes()).startswith("This is TorchScript, which contains code.")
    unpacked = torch_bytes(extra={"code/__torch__.py": b"x"})
    assert refusal(unpacked).startswith("This is TorchScript, which contains code.")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_is_told_as_one(protocol: int) -> None:
    assert refusal(pickle.dumps({"w": [1.0, 2.0]}, protocol)).startswith("This is a plain pickle")


@pytest.mark.parametrize("root", ["archive", "yolo11n-" * 25])
def test_an_upload_that_broke_off_is_told_as_one(root: str) -> None:
    whole = torch_bytes(root)
    for kept in (len(whole) // 2, len(whole) - 30, len(whole) - 1):
        assert refusal(whole[:kept]) == CUT_SHORT
    assert refusal(script_bytes()[:-100]) == CUT_SHORT
    # Another archive is not weights, complete or not.
    assert refusal(_document()[:-30]) == UNKNOWN


@pytest.mark.parametrize("name", [*VIDEOS, *WEIGHTS])
@pytest.mark.parametrize("tail", [b"\0", b"<script>alert(1)</script>", WEIGHTS["pt"], PICTURES["JPEG"]])
def test_nothing_may_hang_on_its_end(name: str, tail: bytes) -> None:
    data = {**VIDEOS, **WEIGHTS}[name] + tail
    # An archive on an archive's end is that archive with something before it.
    assert refusal(data) in (UNKNOWN, DAMAGED_VIDEO, DAMAGED_WEIGHTS)


def _document() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return target.getvalue()


@pytest.mark.parametrize("name", [*VIDEOS, *WEIGHTS])
def test_cut_short_anywhere_it_is_refused(name: str) -> None:
    data = {**VIDEOS, **WEIGHTS}[name]
    for length in range(1, len(data), max(1, len(data) // 150)):
        refusal(data[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([*VIDEOS.values(), *WEIGHTS.values()]),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_never_escapes_as_another_error(data: bytes, damage: list[tuple[int, int]]) -> None:
    broken = bytearray(data)
    for position, value in damage:
        broken[position % len(broken)] = value
    with contextlib.suppress(Invalid):
        found(bytes(broken))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\x1aE\xdf\xa3", b"\0\0\0\x14ftypisom", b"PK\3\4", b"\x08\x08", bytes(8) + b"{"]),
    st.binary(max_size=300),
)
def test_noise_is_refused(start: bytes, noise: bytes) -> None:
    refusal(start + noise)


# --- Videos that mean harm.


def test_a_huge_sparse_video_is_read_by_its_headers_only() -> None:
    """Two gigabytes of nothing: the walk asks for a few hundred bytes of them."""

    class Counting(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.asked += len(data)
            return data

    data = VIDEOS["mp4"]
    index = data.index(b"moov") - 4
    gap = 2 * 1024**3

    class Sparse(Counting):
        """`data` with a hole before its index."""

        at = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            self.at = offset + (len(data) + gap if whence == io.SEEK_END else 0)
            inside = self.at if self.at < index else max(index, self.at - gap)
            super().seek(min(inside, len(data)))
            return self.at

    hole = data[:index] + struct.pack(">I4sQ", 1, b"mdat", gap) + data[index:]
    data, index = hole, index + 16
    gap -= 16
    stream = Sparse(data)
    assert sniff(stream).suffix == ".mp4"
    assert stream.asked < 4000


@pytest.mark.parametrize("depth", [50, 5000])
def test_boxes_in_boxes_are_not_followed_down(depth: int) -> None:
    nest = b""
    for _ in range(depth):
        nest = box(b"moov", nest)
    assert refusal(box(b"ftyp", b"isom\0\0\0\0", b"isom") + nest + box(b"mdat", b"")) in (
        DAMAGED_VIDEO,
        "This file has no video track.",
    )


def _many_boxes() -> bytes:
    return box(b"ftyp", b"isom\0\0\0\0", b"isom") + box(b"free") * 2_000_000


def _many_tracks() -> bytes:
    return box(b"ftyp", b"isom\0\0\0\0", b"isom") + box(b"moov", box(b"trak") * 2_000_000) + box(b"mdat", b"")


def _many_elements() -> bytes:
    return b"\x1aE\xdf\xa3\x87\x42\x82\x84webm" + b"\xec\x80" * 5_000_000


@pytest.mark.parametrize("make", [_many_boxes, _many_tracks, _many_elements])
def test_very_many_parts_are_refused_soon(make: Callable[[], bytes]) -> None:
    assert refusal(make()) == TOO_MANY_PARTS


def _fragments(number: int) -> bytes:
    """A film in fragments, as browsers record it."""
    handler = box(b"hdlr", bytes(8) + b"vide" + bytes(12))
    movie = box(b"moov", box(b"trak", box(b"mdia", handler)))
    return box(b"ftyp", b"isom\0\0\0\0", b"isom") + movie + (box(b"moof") + box(b"mdat", b"x")) * number


def test_films_in_fragments_pass() -> None:
    assert soon(_fragments(14_000)).suffix == ".mp4"


@pytest.mark.parametrize("length", [2, 7, 2**31, 2**32 - 1])
def test_boxes_that_lie_about_their_length(length: int) -> None:
    start = box(b"ftyp", b"isom\0\0\0\0", b"isom")
    assert refusal(start + struct.pack(">I4s", length, b"moov") + bytes(100)) == DAMAGED_VIDEO
    wide = struct.pack(">I4sQ", 1, b"moov", length)
    assert refusal(start + wide + bytes(100)) == DAMAGED_VIDEO
    assert refusal(start + struct.pack(">I4sQ", 1, b"moov", 2**64 - length)) == DAMAGED_VIDEO


# --- Weights that mean harm.


@pytest.mark.parametrize("length", [0, 1, 100, 2**31, 2**60, 2**64 - 1])
def test_a_header_that_lies_about_its_length(length: int) -> None:
    assert refusal(raw_safetensors(b'{"w": 1}' + b" " * 60, b"", length)) in (DAMAGED_WEIGHTS, UNKNOWN)


def test_a_header_that_is_too_long() -> None:
    names = {f"w{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(90_000)}
    assert refusal(raw_safetensors(json.dumps(names).encode())) == DAMAGED_WEIGHTS


ONE = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "header",
    [
        '{"w":' + ONE + ',"w":' + ONE + "}",
        '{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
        '{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
        '{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        '{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,-8]}}',
        '{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
        '{"w":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}}',
        '{"w":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}}',
        '{"w":{"dtype":"PKL","shape":[2],"data_offsets":[0,8]}}',
        '{"w":' + ONE + ',"v":' + ONE + "}",
        '{"w":' + ONE + ',"__metadata__":{"a":1}}',
        '{"w":' + ONE + ',"x":null}',
        '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}',
        '{"w":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,8]}}',
        '{"w":' + "[" * 100_000,
        '{"__metadata__":{"a":"b"}}',
        "{}",
    ],
    ids=lambda header: header[:40],
)
def test_safetensors_that_do_not_add_up(header: str) -> None:
    assert refusal(raw_safetensors(header.encode(), bytes(8))) == DAMAGED_WEIGHTS


def _patched(data: bytes, mark: bytes, at: int, layout: str, *values: int) -> bytes:
    """Change fields of the last record of an archive that begins so."""
    start = data.rindex(mark) + at
    new = struct.pack(layout, *values)
    return data[:start] + new + data[start + len(new) :]


TORCH = WEIGHTS["pt"]


@pytest.mark.parametrize(
    "data",
    [
        torch_bytes(data=b"<script>alert(1)</script>"),
        torch_bytes(data=b""),
        torch_bytes(compression=zipfile.ZIP_DEFLATED),
        TORCH + b"<html>",
        _patched(TORCH, b"PK\1\2", 24, "<I", 2**31),
        _patched(TORCH, b"PK\1\2", 20, "<II", 2**31, 2**31),
        _patched(TORCH, b"PK\1\2", 20, "<II", 2**32 - 1, 2**32 - 1),
        _patched(TORCH, b"PK\1\2", 42, "<I", 2**31),
        _patched(TORCH, b"PK\1\2", 8, "<H", 1),
        _patched(TORCH, b"PK\5\6", 8, "<HH", 65_535, 65_535),
        _patched(TORCH, b"PK\5\6", 8, "<HH", 3, 3),
        _patched(TORCH, b"PK\5\6", 12, "<I", 2**32 - 1),
        _patched(TORCH, b"PK\5\6", 16, "<I", 0),
        _patched(TORCH, b"PK\5\6", 20, "<H", 5),
    ],
)
def test_archives_that_are_not_what_pytorch_writes(data: bytes) -> None:
    assert refusal(data) == DAMAGED_WEIGHTS
    assert refusal(b"<html>" + data) == UNKNOWN


def test_an_archive_of_something_else() -> None:
    assert refusal(_document()) == UNKNOWN
    assert refusal(TORCH.replace(b"model/data.pkl", b"model/nope.pkl")) == UNKNOWN
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02.")
        archive.writestr("b/data.pkl", b"\x80\x02.")
    assert refusal(target.getvalue()) == DAMAGED_WEIGHTS


def test_an_archive_of_very_many_members() -> None:
    many = {f"data/{number}": b"" for number in range(65_000)}
    assert refusal(torch_bytes(extra=many)) == DAMAGED_WEIGHTS


# --- Long headers of weights, which a worker reads.


def _facts_refusal(data: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        weights_facts(io.BytesIO(data))
    return str(caught.value.message)


def _safetensors_of(names: int, first: str = "") -> bytes:
    one = '{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    header = ",".join([*[first] * bool(first), *(f'"w{n}":' + one % (n, n + 1) for n in range(names))])
    return raw_safetensors(b"{" + header.encode() + b"}", bytes(names))


def test_a_long_header_of_safetensors_is_read_by_a_worker() -> None:
    sound = _safetensors_of(40_000)
    assert soon(sound).suffix == ".safetensors"
    assert weights_facts(io.BytesIO(sound))["tensors"] == 40_000
    wrong = _safetensors_of(40_000, '"x":null')
    assert soon(wrong).suffix == ".safetensors"
    assert _facts_refusal(wrong) == DAMAGED_WEIGHTS


def test_a_long_header_of_lists_is_not_read_at_once() -> None:
    lists = b'{"a":[' + b"[]," * 1_300_000 + b"[]]}"
    assert soon(raw_safetensors(lists)).suffix == ".safetensors"
    assert _facts_refusal(raw_safetensors(lists)) == DAMAGED_WEIGHTS
    assert refusal(raw_safetensors(lists[:-1] + b"]")) == DAMAGED_WEIGHTS


def test_the_longest_header_that_is_read_at_once_is_read_soon() -> None:
    lists = b'{"a":[' + b"[]," * 43_000 + b"[]]}"
    assert len(lists) < MOST_SNIFFED_BYTES
    assert refusal(raw_safetensors(lists)) == DAMAGED_WEIGHTS


def test_archives_of_many_members_are_read_by_a_worker() -> None:
    sound = torch_bytes(extra={f"data/{number}": b"" for number in range(2, 40_000)})
    assert soon(sound).suffix == ".pt"
    assert weights_facts(io.BytesIO(sound))["tensors"] == 40_000
    wrong = torch_bytes(extra={f"data/{number}": b"" for number in range(2, 40_000)}, data=b"x")
    assert soon(wrong).suffix == ".pt"
    assert _facts_refusal(wrong) == DAMAGED_WEIGHTS


def test_other_archives_of_many_members_are_refused_at_once() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(40_000):
            archive.writestr(f"a/{number}", b"")
    assert refusal(target.getvalue()) == UNKNOWN


def test_archives_whose_members_have_many_fields_are_read_by_a_worker() -> None:
    """Eight megabytes of a table, four bytes each."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}, 2))
        for number in range(120):
            info = zipfile.ZipInfo(f"model/data/{number}")
            info.extra = struct.pack("<HH", 7, 0) * 16_000
            archive.writestr(info, b"")
    assert soon(target.getvalue()).suffix == ".pt"
    assert _facts_refusal(target.getvalue()) == DAMAGED_WEIGHTS


def test_models_of_many_fields_are_read_by_a_worker() -> None:
    sound = onnx_bytes(*[tensor(1)] * 12_000)
    assert soon(sound).suffix == ".onnx"
    assert weights_facts(io.BytesIO(sound))["tensors"] == 12_000
    longer = onnx_bytes(*[tensor(1)] * 60_000)
    assert soon(longer).suffix == ".onnx"
    assert _facts_refusal(longer) == UNKNOWN


HEAD, OPSET = number(1, 8), blob(8, number(2, 17))


@pytest.mark.parametrize(
    "data",
    [
        HEAD + OPSET,
        HEAD + blob(7, graph()),
        number(1, 0) + blob(7, graph()) + OPSET,
        number(1, 2**63) + blob(7, graph()) + OPSET,
        HEAD + blob(7, b"") + OPSET,
        HEAD + blob(7, graph()) + blob(7, graph()) + OPSET,
        HEAD + HEAD + blob(7, graph()) + OPSET,
        HEAD + blob(7, graph()) + OPSET + blob(99, b"x"),
        HEAD + blob(7, graph()) + OPSET + varint(2 << 3 | 2) + varint(2**63),
        HEAD + blob(7, graph()) + OPSET + b"\x80" * 20,
        HEAD + number(7, 5) + OPSET,
        onnx_bytes(tensor(2, 3, raw=bytes(23))),
        onnx_bytes(tensor(2**40, 2**40)),
        onnx_bytes(tensor(2**63)),
        onnx_bytes(tensor(*[1] * 33)),
        onnx_bytes(tensor(2, kind=77)),
    ],
)
def test_models_that_do_not_add_up(data: bytes) -> None:
    assert refusal(data) == UNKNOWN
