"""Remove metadata from videos: location, times, camera, names, sensor tracks.

Nothing is decoded, and all offsets stay the same. Parts that are not on the allowlists are overwritten with
zeros, in boxes and elements that players skip. Only data that a video or audio track refers to is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from workers.formats import ebml, isobmff
from workers.formats.byte_source import MOST_PARTS, ByteSource, FormatError
from workers.formats.ebml import Element
from workers.formats.isobmff import Box
from workers.formats.video_types import document_type, handler_of, tracks_of
from workers.sanitize.copy_plan import Clean, CopyPlan

Numbers = npt.NDArray[np.int64]
# Cost of an edit in the count of parts, and table rows that count as one part.
_EDIT_WEIGHT = 3
_ROWS_PER_PART = 32


class _Edits:
    """Changes of byte ranges of the original. Its length stays the same."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._changes: list[tuple[int, int, bytes]] = []

    def put(self, start: int, data: bytes) -> None:
        """Overwrite the bytes at an offset."""
        self._source.count_part(_EDIT_WEIGHT)
        self._changes.append((start, start + len(data), data))

    def blank(self, start: int, end: int) -> None:
        """Overwrite the bytes between two offsets with zeros."""
        self._source.count_part(_EDIT_WEIGHT)
        self._changes.append((start, end, b""))

    def done(self) -> Clean:
        """Return the copy with all changes."""
        plan, position = CopyPlan(), 0
        for start, end, data in sorted(self._changes):
            plan.copy(self._source, position, start - position)
            if data:
                plan.write(data)
            else:
                plan.blank(end - start)
            position = end
        plan.copy(self._source, position, self._source.size - position)
        return plan.done()


# --- MP4 and MOV. ISO/IEC 14496-12, 8; QuickTime File Format.

_TOP = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"sidx", b"styp", b"mfra", b"free", b"skip", b"wide"})
_KEPT = {
    b"moov": frozenset({b"mvhd", b"trak", b"mvex"}),
    b"trak": frozenset({b"tkhd", b"edts", b"mdia", b"tapt"}),
    b"mdia": frozenset({b"mdhd", b"hdlr", b"minf", b"elng"}),
    b"minf": frozenset({b"vmhd", b"smhd", b"hdlr", b"dinf", b"stbl"}),
    b"stbl": frozenset(
        b"stsd stts stss stsh ctts cslg stsc stsz stco co64 sdtp sbgp sgpd stps".split()
    ),
    b"moof": frozenset({b"mfhd", b"traf"}),
    b"traf": frozenset({b"tfhd", b"tfdt", b"trun", b"sbgp", b"sgpd", b"sdtp"}),
}  # fmt: skip
_TIMED = frozenset({b"mvhd", b"tkhd", b"mdhd"})
_PLAYED = (b"vide", b"soun")
# Free boxes are empty, or contain leftovers of an editor.
_EMPTY = frozenset({b"free", b"skip", b"wide"})
# Two million frames: a film of nine hours.
_MOST_TABLE_BYTES = 8 * 1024 * 1024
_MOST_DATA_BOXES = 100


def clean_boxes(source: ByteSource) -> Clean:
    """Plan the clean copy of an MP4 or MOV.

    Raises:
        FormatError: it is neither, is damaged, or the data of its tracks cannot be separated.
    """
    top = list(isobmff.walk(source, 0, source.size))
    _major, named = isobmff.brands(source, top[0])
    movies = [box for box in top if box.kind == b"moov"]
    if len(movies) != 1 or named & (isobmff.AVIF_BRANDS | isobmff.HEIC_BRANDS):
        raise FormatError("This kind of file cannot be cleaned.")
    edits = _Edits(source)
    kept = _clean_movie(source, movies[0], edits)
    for box in top:
        if box.kind in _EMPTY:
            edits.blank(box.body, box.end)
        elif box.kind not in _TOP:
            _free(edits, box)
        elif box.kind == b"moof":
            _clean_inside(source, box, edits)
    data = [box for box in top if box.kind == b"mdat"]
    if any(box.kind == b"moof" for box in top):
        if len(kept) != len(tracks_of(source, movies[0])):
            raise FormatError("The fragments contain other tracks than video and audio.")
    else:
        _blank_between(edits, data, [_extents(source, track) for track in kept])
    return edits.done()


def _free(edits: _Edits, box: Box) -> None:
    """Turn a box into a free box of the same length, which players skip."""
    edits.put(box.start + 4, b"free")
    edits.blank(box.body, box.end)


def _clean_movie(source: ByteSource, movie: Box, edits: _Edits) -> list[Box]:
    """Clean the index, and return the tracks that are kept."""
    kept = []
    for box in isobmff.walk(source, movie.body, movie.end):
        if box.kind == b"trak" and handler_of(source, box) in _PLAYED:
            kept.append(box)
            _clean_box(source, box, edits)
            _clean_encoder(source, box, edits)
        elif box.kind in _KEPT[b"moov"] and box.kind != b"trak":
            _clean_box(source, box, edits)
        else:
            _free(edits, box)
    return kept


def _clean_inside(source: ByteSource, parent: Box, edits: _Edits) -> None:
    for box in isobmff.walk(source, parent.body, parent.end):
        if box.kind in _KEPT[parent.kind]:
            _clean_box(source, box, edits)
        else:
            _free(edits, box)


def _clean_box(source: ByteSource, box: Box, edits: _Edits) -> None:
    """Clean a box that is kept."""
    if box.kind in _KEPT:
        _clean_inside(source, box, edits)
    elif box.kind in _TIMED:
        # Creation and modification time, in seconds of 32 or 64 bits.
        length = 16 if source.at(box.body, 1) == b"\1" else 8
        edits.put(box.body + 4, bytes(length))
    elif box.kind == b"hdlr":
        # A name follows the track's type, often that of the camera.
        edits.blank(min(box.end, box.body + 24), box.end)
    elif box.kind == b"dinf":
        for table in isobmff.walk(source, box.body, box.end):
            _clean_references(source, table, edits)


def _clean_references(source: ByteSource, table: Box, edits: _Edits) -> None:
    """Remove the paths of references to other files."""
    if table.kind != b"dref":
        _free(edits, table)
        return
    for entry in isobmff.walk(source, table.body + 8, table.end):
        edits.blank(min(entry.end, entry.body + 4), entry.end)


def _tables(source: ByteSource, track: Box) -> dict[bytes, Box]:
    """Return the tables of a track by kind."""
    place = track
    for kind in (b"mdia", b"minf", b"stbl"):
        inner = isobmff.inside(source, place, kind)
        if inner is None:
            raise FormatError("A track has no table.")
        place = inner
    return {box.kind: box for box in isobmff.walk(source, place.body, place.end)}


def _clean_encoder(source: ByteSource, track: Box, edits: _Edits) -> None:
    """Remove the encoder name of a video track: cameras write their name there."""
    described = _tables(source, track).get(b"stsd")
    if described is None or handler_of(source, track) != b"vide":
        return
    for entry in isobmff.walk(source, described.body + 8, described.end):
        edits.blank(min(entry.end, entry.body + 42), min(entry.end, entry.body + 42 + 32))


def _extents(source: ByteSource, track: Box) -> Numbers:
    """Return the byte ranges of a track's chunks, as rows of start and end."""
    tables = _tables(source, track)
    if not {b"stsz", b"stsc"} <= tables.keys() or not {b"stco", b"co64"} & tables.keys():
        raise FormatError("A track has no table.")
    wide = b"co64" in tables
    starts = _table(source, tables[b"co64" if wide else b"stco"], ">u8" if wide else ">u4", 1)[:, 0]
    counts = _counts(_table(source, tables[b"stsc"], ">u4", 3), len(starts))
    if (starts < 0).any():
        raise FormatError("The tables of a track contradict each other.")
    return np.stack([starts, starts + _lengths(source, tables[b"stsz"], counts)], axis=1)


def _table(source: ByteSource, box: Box, dtype: str, columns: int) -> Numbers:
    """Return the rows of a table."""
    width = np.dtype(dtype).itemsize * columns
    rows = struct.unpack(">I", source.at(box.body + 4, 4))[0]
    if rows * width > min(_MOST_TABLE_BYTES, box.end - box.body - 8):
        raise FormatError("A table is longer than its box or the limit.")
    source.count_part(rows // _ROWS_PER_PART)
    raw = np.frombuffer(source.at(box.body + 8, rows * width), dtype)
    return raw.astype(np.int64).reshape(rows, columns)


def _lengths(source: ByteSource, box: Box, counts: Numbers) -> Numbers:
    """Return the bytes of each chunk, from the sizes of its samples."""
    same, rows = struct.unpack(">II", source.at(box.body + 4, 8))
    # Old audio tracks state one byte, and their real size elsewhere.
    if counts.sum() != rows or same == 1:
        raise FormatError("The tables of a track contradict each other.")
    if same:
        return np.asarray(counts * same, np.int64)
    behind = Box(box.kind, box.start, box.body + 4, box.end)
    sizes = _table(source, behind, ">u4", 1)[:, 0]
    ends = np.cumsum(counts)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return np.asarray(before[ends] - before[ends - counts], np.int64)


def _counts(runs: Numbers, chunks: int) -> Numbers:
    """Return the sample count of each chunk, from runs: first chunk, samples per chunk, description."""
    firsts = np.append(runs[:, 0] - 1, chunks)
    lengths = np.diff(firsts)
    if (lengths < 0).any() or (len(runs) and runs[0, 0] != 1) or lengths.sum() != chunks:
        raise FormatError("The tables of a track contradict each other.")
    return np.repeat(runs[:, 1], lengths)


def _blank_between(edits: _Edits, data: list[Box], tracks: Iterable[Numbers]) -> None:
    """Overwrite the data that no track refers to."""
    if len(data) > _MOST_DATA_BOXES:
        raise FormatError("The file has too many data boxes.")
    extents = np.concatenate([np.zeros((0, 2), np.int64), *tracks])
    extents = extents[np.argsort(extents[:, 0], kind="stable")]
    # An extent starts a new island if it starts after the end of all previous ones.
    reach = np.maximum.accumulate(extents[:, 1]) if len(extents) else extents[:, 1]
    fresh = np.append(True, extents[1:, 0] > reach[:-1]) if len(extents) else np.zeros(0, bool)
    begins = extents[fresh, 0]
    ends = reach[np.append(fresh[1:], True)] if len(extents) else reach
    if len(begins) > MOST_PARTS:
        raise FormatError("The file has too many separate ranges of data.")
    islands = [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True) if begin < end]
    inside = 0
    for box in data:
        position = box.body
        for begin, end in islands:
            if box.body <= begin and end <= box.end:
                inside += 1
                edits.blank(position, begin)
                position = end
        edits.blank(position, box.end)
    if inside != len(islands):
        raise FormatError("Frames are outside of the data boxes.")


# --- WebM. RFC 9559.

_PLAYED_TYPES = (ebml.VIDEO, ebml.AUDIO)
_HEADER_KEPT = frozenset({0x4286, 0x42F7, 0x42F2, 0x42F3, 0x4282, 0x4287, 0x4285})
# Kind of the entries in lists of elements and of frames.
_PLACES = {ebml.SEEK_HEAD: 0x4DBB, ebml.CUES: 0xBB}
_INFO_KEPT = frozenset({0x2AD7B1, 0x4489})
_APPS = frozenset({0x4D80, 0x5741})
_TRACK_KEPT = frozenset({
    0xD7, 0x73C5, 0x83, 0xB9, 0x88, 0x55AA, 0x9C, 0x6DE7, 0x6DF8, 0x23E383, 0x234E7A, 0x23314F, 0x55EE,
    0x22B59C, 0x22B59D, 0x86, 0x63A2, 0xAA, 0x56AA, 0x56BB, 0xE0, 0xE1, 0x6D80,
})  # fmt: skip
# Elements in a cluster of unknown length: time, blocks, size of the previous cluster, position.
_IN_CLUSTER = frozenset({0xE7, 0xA3, 0xA0, 0xA7, 0xAB})


def clean_webm(source: ByteSource) -> Clean:
    """Plan the clean copy of a WebM.

    Raises:
        FormatError: it is not a WebM, is damaged, or has tracks that are neither video nor audio.
    """
    edits = _Edits(source)
    header, *rest = list(ebml.walk(source, 0, source.size))
    if document_type(source, header) != b"webm":
        raise FormatError("This kind of file cannot be cleaned.")
    for element in ebml.walk(source, header.body, header.end):
        if element.kind not in _HEADER_KEPT:
            _void(edits, element)
    for element in rest:
        if element.kind == ebml.SEGMENT:
            _clean_segment(source, element, edits)
        else:
            _void(edits, element)
    return edits.done()


def _clean_segment(source: ByteSource, segment: Element, edits: _Edits) -> None:
    position, in_cluster = segment.body, False
    while position < segment.end:
        element = next(ebml.walk(source, position, segment.end))
        position = element.end
        if element.kind == ebml.CLUSTER:
            in_cluster = element.open
            position = element.body if element.open else element.end
        elif element.open:
            raise FormatError("An element has no length.")
        elif in_cluster and element.kind in _IN_CLUSTER:
            continue
        else:
            _clean_element(source, element, edits)


def _clean_element(source: ByteSource, element: Element, edits: _Edits) -> None:
    if element.kind == ebml.INFO:
        _clean_info(source, element, edits)
    elif element.kind == ebml.TRACKS:
        _clean_tracks(source, element, edits)
    elif element.kind in _PLACES:
        for place in ebml.walk(source, element.body, element.end):
            if place.kind != _PLACES[element.kind]:
                _void(edits, place)
    else:
        _void(edits, element)


def _clean_info(source: ByteSource, info: Element, edits: _Edits) -> None:
    for element in ebml.walk(source, info.body, info.end):
        if element.kind in _APPS:
            # The names of writing programs are mandatory, so they are emptied.
            edits.blank(element.body, element.end)
        elif element.kind not in _INFO_KEPT:
            _void(edits, element)


def _clean_tracks(source: ByteSource, tracks: Element, edits: _Edits) -> None:
    for entry in ebml.walk(source, tracks.body, tracks.end):
        if entry.kind != ebml.TRACK_ENTRY:
            _void(edits, entry)
            continue
        for element in ebml.walk(source, entry.body, entry.end):
            if element.kind == ebml.TRACK_TYPE and ebml.number(source, element) not in _PLAYED_TYPES:
                raise FormatError("The video has other tracks than video and audio.")
            if element.kind not in _TRACK_KEPT:
                _void(edits, element)


def _void(edits: _Edits, element: Element) -> None:
    """Turn an element into a Void element of the same length, which players skip."""
    length = element.end - element.start
    short = length - 2 < 127
    size = bytes([0x80 | length - 2]) if short else struct.pack(">Q", 1 << 56 | length - 9)
    edits.put(element.start, b"\xec" + size)
    edits.blank(element.start + 1 + len(size), element.end)
