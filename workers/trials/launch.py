"""Having a converted model tried in a process that can do nothing else, and believing nothing it left."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers import engine
from workers.bundle import BundleError, FolderModel, read_plain
from workers.engine import ThumbnailResult
from workers.media.picture import DecodeLimits, Picture
from workers.plugin import OperationError
from workers.sandbox import process
from workers.sandbox.process import Limits
from workers.thumbnail_sizes import SAMPLE_SIDE
from workers.trials import samples
from workers.trials.entry_point import MOST_SEEN, REPORT

logger = logging.getLogger(__name__)

# After the first runs, others go on for so long.
SECONDS = 6.0
# By the clock more than of the processor: on a busy machine jobs and pages come first.
BOUNDS = Limits(memory=4 * 1024**3, cpu=60, wall=150, file=64 * 1024**2)
MOST_PICTURES = 6
_MOST_PICTURE_BYTES = 4 * 1024**2
_SMALL = DecodeLimits(max_pixels=SAMPLE_SIDE**2, max_side=SAMPLE_SIDE, formats=("WEBP",))
_TOO_SLOW = "It was stopped: even a few small pictures take longer than a minute."
_BROKE = "It breaks down when it is run over a picture."


class DetectedClass(BaseModel):
    """A class that was found: so often, or with so much confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(max_length=500)
    count: int | None = Field(default=None, ge=1, le=10**6)
    confidence: float | None = Field(default=None, ge=0, le=1)


class _ReportedSample(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: int = Field(ge=0, lt=MOST_PICTURES)
    file: str = Field(pattern=r"^([0-9]\.webp)?$")
    seen: list[DetectedClass] = Field(max_length=MOST_SEEN)


class _TrialReport(BaseModel):
    """What the process said of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sentence: str = Field(default="", max_length=500)
    times: list[float] = Field(default_factory=list, max_length=100)
    samples: list[_ReportedSample] = Field(default_factory=list, max_length=MOST_PICTURES)


@dataclass(frozen=True)
class TrialSample:
    """A picture and what the model made of it: WebP of at most `SAMPLE_SIDE` pixels a side.

    `number` counts the pictures that it was tried on, from 0. `before` is None where the model looks at no
    picture, `after` where it makes none; `caption` says what the one before shows.
    """

    before: ThumbnailResult | None
    after: ThumbnailResult | None
    seen: tuple[DetectedClass, ...] = ()
    caption: str = ""
    number: int = 0


@dataclass(frozen=True)
class Trial:
    """What came of it. `sentence` says why there is nothing, or not all.

    `first_ms` is how long the first picture takes where nothing of the model is loaded yet, `each_ms` the
    median of the later ones, both from bytes to bytes, in milliseconds; `width` and `height` are those of
    the first picture.
    """

    sentence: str = ""
    first_ms: float | None = None
    each_ms: float | None = None
    runs: int = 0
    width: int = 0
    height: int = 0
    shown: tuple[TrialSample, ...] = ()


def try_model(
    folder: Path,
    *,
    given: Sequence[bytes] = (),
    limits: Limits = BOUNDS,
    use_bubblewrap: bool = True,
    scratch_in: Path | None = None,
) -> Trial:
    """Run the converted model in a folder over our pictures, on the CPU. Never raises for what it does.

    Args:
        given: other pictures instead, WebP of at most `SAMPLE_SIDE` pixels a side, at most `MOST_PICTURES`.
            Of these it is not measured how long later ones take.
    """
    model = FolderModel(folder)
    reduced = [samples.reduce(data, model.facts) for data in given[:MOST_PICTURES]]
    pictures = reduced or samples.pictures_for(model.facts)
    with tempfile.TemporaryDirectory(prefix="ipau-trial-", dir=scratch_in) as place:
        out, shelf = Path(place) / "out", Path(place) / "pictures"
        out.mkdir()
        shelf.mkdir()
        for number, data in enumerate(reduced):
            (shelf / str(number)).write_bytes(data)
        ended = process.run(
            "workers.trials.entry_point",
            {"seconds": 0 if given else SECONDS},
            readable={"model": folder} | ({"pictures": shelf} if given else {}),
            out=out,
            limits=limits,
            use_bubblewrap=use_bubblewrap,
            scratch_in=scratch_in,
        )
        said = _read(out)
        captions = [] if given else [picture.caption for picture in samples.PICTURES]
        shown = tuple(_show(kept, pictures, captions, model, out) for kept in said.samples)
    size = Picture.open(pictures[0])
    times = [spent for spent in said.times if spent > 0]
    sentence = said.sentence or (_TOO_SLOW if ended.was_slow else _BROKE if ended.status != 0 else "")
    return Trial(
        sentence=sentence,
        first_ms=round(times[0], 1) if times else None,
        each_ms=round(statistics.median(times[1:]), 1) if times[1:] else None,
        runs=len(times),
        width=size.width,
        height=size.height,
        shown=shown,
    )


def _read(out: Path) -> _TrialReport:
    try:
        return _TrialReport.model_validate(process.read_json(out / REPORT))
    except ValidationError:
        logger.warning("A trial left a report that is none", exc_info=True)
        return _TrialReport()


def _show(
    kept: _ReportedSample, pictures: Sequence[bytes], captions: Sequence[str], model: FolderModel, out: Path
) -> TrialSample:
    looks = samples.takes_pictures(model.facts) and kept.picture < len(pictures)
    after = _read_picture(out / kept.file) if kept.file else None
    if not looks:
        return TrialSample(None, after, tuple(kept.seen), number=kept.picture)
    before = engine.thumbnail(pictures[kept.picture], SAMPLE_SIDE)
    caption = captions[kept.picture] if captions else ""
    return TrialSample(before, after, tuple(kept.seen), caption, kept.picture)


def _read_picture(path: Path) -> ThumbnailResult | None:
    """Return a picture drawn anew from the pixels of one that may be anything; None where it is none."""
    try:
        data = read_plain(path, _MOST_PICTURE_BYTES)
        Picture.open(data, _SMALL)
        return engine.thumbnail(data, SAMPLE_SIDE)
    except (OSError, BundleError, OperationError):
        logger.warning("A trial left a picture that is none", exc_info=True)
        return None
