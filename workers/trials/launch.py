"""Run the trial of a converted model in a sandbox process, and verify everything that it leaves."""

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

# Runs are repeated for this many seconds after the least number of runs.
SECONDS = 6.0
# Wall time exceeds CPU time, because jobs and pages come first on a busy machine.
BOUNDS = Limits(memory=4 * 1024**3, cpu=60, wall=150, file=64 * 1024**2)
MOST_PICTURES = 6
_MOST_PICTURE_BYTES = 4 * 1024**2
_SMALL = DecodeLimits(max_pixels=SAMPLE_SIDE**2, max_side=SAMPLE_SIDE, formats=("WEBP",))
_TOO_SLOW = "The trial was stopped: a few small images take longer than a minute."
_CRASHED = "The model crashes when it runs on an image."


class DetectedClass(BaseModel):
    """A class in the result, with the count of detections or the confidence of a classifier."""

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
    """Report of the trial process. It is untrusted, so it is validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sentence: str = Field(default="", max_length=500)
    times: list[float] = Field(default_factory=list, max_length=100)
    samples: list[_ReportedSample] = Field(default_factory=list, max_length=MOST_PICTURES)


@dataclass(frozen=True)
class TrialSample:
    """Input and result image of one run, as WebP with sides of at most `SAMPLE_SIDE` pixels.

    `number` is the position of the input, from 0. `before` is None if the model takes no image, `after` if
    it returns none. `caption` describes the input.
    """

    before: ThumbnailResult | None
    after: ThumbnailResult | None
    seen: tuple[DetectedClass, ...] = ()
    caption: str = ""
    number: int = 0


@dataclass(frozen=True)
class Trial:
    """Result of a trial. `sentence` gives the reason if it is empty or incomplete.

    `first_ms` is the time of the first image, including loading the model. `each_ms` is the median of later
    ones. Both are milliseconds, including decoding and encoding. `width` and `height` are those of the first
    image, in pixels.
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
    """Run the converted model in a folder on sample images, on the CPU. Never raises if the model fails.

    Args:
        given: at most `MOST_PICTURES` images to use instead: WebP with sides of at most `SAMPLE_SIDE` pixels.
            They run once each, without repeated runs to measure speed.
    """
    model = FolderModel(folder)
    reduced = [samples.reduce(data, model.facts) for data in given[:MOST_PICTURES]]
    images = reduced or samples.images_for(model.facts)
    with tempfile.TemporaryDirectory(prefix="ipau-trial-", dir=scratch_in) as temporary:
        out, inputs = Path(temporary) / "out", Path(temporary) / "pictures"
        out.mkdir()
        inputs.mkdir()
        for number, data in enumerate(reduced):
            (inputs / str(number)).write_bytes(data)
        end = process.run(
            "workers.trials.entry_point",
            {"seconds": 0 if given else SECONDS},
            readable={"model": folder} | ({"pictures": inputs} if given else {}),
            out=out,
            limits=limits,
            use_bubblewrap=use_bubblewrap,
            scratch_in=scratch_in,
        )
        report = _read(out)
        captions = [] if given else [image.caption for image in samples.IMAGES]
        shown = tuple(_show(sample, images, captions, model, out) for sample in report.samples)
    size = Picture.open(images[0])
    times = [milliseconds for milliseconds in report.times if milliseconds > 0]
    sentence = report.sentence or (_TOO_SLOW if end.was_slow else _CRASHED if end.status != 0 else "")
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
        logger.warning("A trial left an invalid report", exc_info=True)
        return _TrialReport()


def _show(
    sample: _ReportedSample, images: Sequence[bytes], captions: Sequence[str], model: FolderModel, out: Path
) -> TrialSample:
    has_input = samples.takes_images(model.facts) and sample.picture < len(images)
    after = _read_image(out / sample.file) if sample.file else None
    if not has_input:
        return TrialSample(None, after, tuple(sample.seen), number=sample.picture)
    before = engine.thumbnail(images[sample.picture], SAMPLE_SIDE)
    caption = captions[sample.picture] if captions else ""
    return TrialSample(before, after, tuple(sample.seen), caption, sample.picture)


def _read_image(path: Path) -> ThumbnailResult | None:
    """Return an untrusted image re-encoded from its pixels, or None if it is not valid."""
    try:
        data = read_plain(path, _MOST_PICTURE_BYTES)
        Picture.open(data, _SMALL)
        return engine.thumbnail(data, SAMPLE_SIDE)
    except (OSError, BundleError, OperationError):
        logger.warning("A trial left an invalid image", exc_info=True)
        return None
