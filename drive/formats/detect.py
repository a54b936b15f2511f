"""Detect the type of a file from its bytes. Its name and the client's Content-Type are ignored.

Headers are read under limits. Nothing is decoded, unpacked or unpickled, and no file is read as a whole. Only
a worker reads a long header of weights completely (`weights_facts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from drive.models import FileKind
from ipau.common.errors import Invalid
from workers.checkpoints.facts import WeightsFacts
from workers.checkpoints.onnx_header import read_onnx
from workers.checkpoints.safetensors_header import read_safetensors, recognize_safetensors
from workers.checkpoints.torch_zip import (
    START_BYTES,
    CutShortError,
    begins_as_torch,
    read_torch,
    refuse_pickle,
)
from workers.checkpoints.upload import Refused
from workers.formats import isobmff
from workers.formats.byte_source import ByteSource, FormatError, TooManyPartsError
from workers.formats.signatures import explain_stray_bytes
from workers.formats.video_types import NotTakenError, identify_video
from workers.media import decode
from workers.media.decode import PictureError

# No format of weights has a registered type, and browsers must not guess one.
WEIGHTS_TYPE = "application/octet-stream"
_PICTURES = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF = isobmff.AVIF_BRANDS | isobmff.HEIC_BRANDS | {b"mif1", b"msf1"}
_HEAD = START_BYTES
# Boxes, elements, fields or archive members that a web process parses in 50 ms.
SNIFFED_PARTS = 30_000


@dataclass(frozen=True)
class DetectedType:
    """The detected type of a file.

    `suffix` includes the dot. `width` and `height` are in pixels after EXIF rotation, or None if unknown.
    """

    kind: FileKind
    content_type: str
    suffix: str
    width: int | None = None
    height: int | None = None


def sniff(content: BinaryIO) -> DetectedType:
    """Detect the type of an open file. Its position is unspecified afterwards.

    Raises:
        Invalid: the type is not supported, or the file is damaged; the message says which.
    """
    content.seek(0)
    head = content.read(_HEAD)
    if head.startswith(_PICTURES):
        return _picture(content)
    try:
        if head[4:8] == b"ftyp":
            return _boxes(content)
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _video(ByteSource(content, SNIFFED_PARTS))
    except TooManyPartsError as error:
        text = _("This video has too many parts. Convert it to MP4 with the index at the start.")
        raise Invalid(text, code="too_complex") from error
    except NotTakenError as error:
        raise Invalid(str(error), code="not_taken") from error
    except FormatError as error:
        raise Invalid(_("This video is damaged or incomplete. Upload it again."), code="damaged") from error
    return _weights(content, head)


def weights_facts(content: BinaryIO) -> dict[str, Any]:
    """Read facts from the header of weights, as JSON. Raises Invalid as `sniff`."""
    content.seek(0)
    form = _form_of(content.read(_HEAD))
    with _refusing(form):
        return form.read(ByteSource(content)).as_json()


def _picture(content: BinaryIO) -> DetectedType:
    try:
        facts = decode.identify(content)
    except PictureError as error:
        if error.message == decode.UNREADABLE:
            raise _unknown() from error
        raise Invalid(error.message, code=error.code) from error
    return DetectedType(FileKind.PICTURE, facts.content_type, facts.suffix, facts.width, facts.height)


def _boxes(content: BinaryIO) -> DetectedType:
    source = ByteSource(content, SNIFFED_PARTS)
    major, _brands = isobmff.brands(source, next(isobmff.walk(source, 0, source.size)))
    # A file may list brands of both; the major brand decides.
    return _picture(content) if major in _HEIF else _video(source)


def _video(source: ByteSource) -> DetectedType:
    container = identify_video(source)
    return DetectedType(FileKind.VIDEO, container.content_type, container.suffix)


def _weights(content: BinaryIO, head: bytes) -> DetectedType:
    form = _form_of(head)
    with _refusing(form):
        try:
            (form.recognize or form.read)(ByteSource(content, SNIFFED_PARTS))
        except TooManyPartsError:
            if not form.may_be_long:
                raise
    return DetectedType(FileKind.WEIGHTS, WEIGHTS_TYPE, form.suffix)


def _form_of(head: bytes) -> _Form:
    try:
        refuse_pickle(head)
    except Refused as error:
        raise Invalid(error.message, code="not_taken") from error
    form = next((form for form in _FORMS if form.begins(head)), None)
    if form is None:
        late = explain_stray_bytes(head)
        raise Invalid(late, code="damaged") if late else _unknown()
    return form


@contextmanager
def _refusing(form: _Form) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise Invalid(error.message, code="not_taken") from error
    except FormatError as error:
        if not form.certain:
            raise _unknown() from error
        raise Invalid(_damage(error), code="damaged") from error


def _damage(error: FormatError) -> str:
    if isinstance(error, CutShortError):
        return _("These weights are incomplete: the end of the file is missing. Upload the whole file again.")
    return _("These weights are damaged, or not in the format that they claim. Export them again.")


@dataclass(frozen=True)
class _Form:
    """A format of weights.

    `certain`: no other format begins with the same bytes. `may_be_long`: valid files may have more parts than
    a web process parses. `recognize` reads less than `read` does.
    """

    suffix: str
    begins: Callable[[bytes], bool]
    read: Callable[[ByteSource], WeightsFacts]
    certain: bool = False
    may_be_long: bool = False
    recognize: Callable[[ByteSource], object] | None = None


_FORMS = (
    _Form(".pt", begins_as_torch, read_torch, certain=True, may_be_long=True),
    # The archive members may be in another order.
    _Form(".pt", lambda head: head.startswith(b"PK\3\4"), read_torch),
    # Eight bytes of length, with the upper four zero in any realistic file; then JSON.
    _Form(
        ".safetensors",
        lambda head: head[4:9] == b"\0\0\0\0{",
        read_safetensors,
        certain=True,
        recognize=recognize_safetensors,
    ),
    # The first field of an ONNX model is its version.
    _Form(".onnx", lambda head: head[:1] == b"\x08", read_onnx, may_be_long=True),
)


def _unknown() -> Invalid:
    text = _(
        "This file type isn’t supported. You can upload images (JPEG, PNG, TIFF, WebP, AVIF), videos (MP4, "
        "WebM, MOV) and weights (PyTorch, ONNX, safetensors)."
    )
    return Invalid(text, code="unreadable")
