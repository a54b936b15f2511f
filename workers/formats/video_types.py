"""Detect the container format of a video from its headers, without decoding a frame."""

from __future__ import annotations

from dataclasses import dataclass

from workers.formats import ebml, isobmff
from workers.formats.byte_source import ByteSource, FormatError
from workers.formats.isobmff import Box

# Brands that players and phones write into MP4 files. Those of audiobooks, 3GP and HEIF are excluded.
MP4_BRANDS = frozenset(
    b"isom,iso2,iso3,iso4,iso5,iso6,iso7,iso8,iso9,mp41,mp42,mp71,avc1,MSNV,dash,M4V ,M4VH,M4VP".split(b",")
)
QUICKTIME = b"qt  "


@dataclass(frozen=True)
class Container:
    """A kind of video file. `suffix` has its dot."""

    format: str
    content_type: str
    suffix: str


MP4 = Container("mp4", "video/mp4", ".mp4")


MOV = Container("mov", "video/quicktime", ".mov")


WEBM = Container("webm", "video/webm", ".webm")


class NotTakenError(FormatError):
    """A valid video file of a kind that is not supported. The message is for the user."""


def identify_video(source: ByteSource) -> Container:
    """Return which kind of video this is.

    Raises:
        NotTakenError: it is another kind, or has no moving picture.
        FormatError: it is damaged or cut short.
    """
    if source.at(0, 4) == b"\x1aE\xdf\xa3":
        return _identify_ebml(source)
    return _identify_boxes(source)


def tracks_of(source: ByteSource, movie: Box) -> list[Box]:
    """Return the tracks of a movie. Raises FormatError."""
    return [box for box in isobmff.walk(source, movie.body, movie.end) if box.kind == b"trak"]


def handler_of(source: ByteSource, track: Box) -> bytes:
    """Return the kind of a track: `vide`, `soun`, …; nothing if it does not say. Raises FormatError."""
    media = isobmff.inside(source, track, b"mdia")
    handler = isobmff.inside(source, media, b"hdlr") if media else None
    return source.at(handler.body + 8, 4) if handler else b""


def document_type(source: ByteSource, header: ebml.Element) -> bytes:
    """Return the document type of an EBML file. Raises FormatError."""
    if header.kind != ebml.HEADER or header.end - header.body > 1024:
        raise FormatError("The file has no EBML header.")
    for element in ebml.walk(source, header.body, header.end):
        if element.kind == ebml.DOC_TYPE:
            return source.at(element.body, element.end - element.body).rstrip(b"\0")
    return b""


def _identify_boxes(source: ByteSource) -> Container:
    top = list(isobmff.walk(source, 0, source.size))
    major, named = isobmff.brands(source, top[0])
    if major != QUICKTIME and not named & MP4_BRANDS:
        raise NotTakenError("This kind of video is not supported. Convert it to MP4.")
    kinds = [box.kind for box in top]
    if kinds.count(b"moov") != 1 or not {b"mdat", b"moof"} & set(kinds):
        raise FormatError("The video has no index or no data.")
    handlers = [handler_of(source, track) for track in tracks_of(source, top[kinds.index(b"moov")])]
    if b"vide" not in handlers:
        raise NotTakenError("This file has no video track.")
    return MOV if major == QUICKTIME else MP4


def _identify_ebml(source: ByteSource) -> Container:
    header, *rest = list(ebml.walk(source, 0, source.size))
    if document_type(source, header) != b"webm":
        raise NotTakenError("Matroska videos are not supported. Convert the video to WebM or MP4.")
    segments = [element for element in rest if element.kind == ebml.SEGMENT]
    if len(segments) != 1 or any(element.kind not in (ebml.SEGMENT, ebml.VOID) for element in rest):
        raise FormatError("The video must have exactly one segment.")
    types = _track_types(source, segments[0])
    if ebml.VIDEO not in types:
        raise NotTakenError("This file has no video track.")
    return WEBM


def _track_types(source: ByteSource, segment: ebml.Element) -> list[int]:
    """Return the types of the tracks, which are listed before the first cluster."""
    for element in ebml.walk(source, segment.body, segment.end):
        if element.kind == ebml.TRACKS:
            return [
                ebml.number(source, field)
                for entry in ebml.walk(source, element.body, element.end)
                if entry.kind == ebml.TRACK_ENTRY
                for field in ebml.walk(source, entry.body, entry.end)
                if field.kind == ebml.TRACK_TYPE
            ]
        if element.kind == ebml.CLUSTER:
            break
    raise FormatError("The video lists no tracks.")
