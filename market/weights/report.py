"""Format the report of a conversion, with its trial, for pages and the command line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from market.models import Weights
from market.weights.samples import AnySample
from market.weights.speeds import SpeedText, describe_speeds
from workers.bundle import GRAPHS
from workers.tasks import TASKS

CLASSES_SHOWN = 200
LAYOUTS: dict[str, str | Promise] = {
    "anchors": gettext_lazy("one column per anchor: box and class scores (YOLOv8 and later)"),
    "yolov5": gettext_lazy("one row per anchor: box, objectness and class scores (YOLOv5)"),
    "yolox": gettext_lazy("one row per grid cell: box in grid units, objectness and class scores (YOLOX)"),
    "yolox-decoded": gettext_lazy(
        "one row per grid cell: box in pixels, objectness and class scores (YOLOX)"
    ),
    "end-to-end": gettext_lazy("one row per detection: corners, confidence, class"),
    "semantic": gettext_lazy("class scores for each pixel"),
    "labels": gettext_lazy("a class number for each pixel"),
}


@dataclass(frozen=True)
class ReportText:
    """The report as texts.

    Attributes:
        facts: pairs of label and text.
        pixels: the preprocessing, also one of the facts; empty if the model has none.
        files: name, size and SHA-256 of each file.
        untried: why the trial failed; empty if it succeeded.
    """

    facts: list[tuple[str, str]]
    pixels: str
    classes: list[str]
    more_classes: int
    files: list[tuple[str, str, str]]
    isolation: list[str]
    checks: list[str]
    choices: list["LayoutChoice"]
    speeds: list[SpeedText]
    untried: str
    samples: list["SampleText"]


@dataclass(frozen=True)
class LayoutChoice:
    """A possible output layout: its form value, its text, and whether it was recognized or chosen."""

    value: str
    text: str
    origin: str


@dataclass(frozen=True)
class SampleText:
    """A sample with alternative texts of both images and a caption."""

    row: AnySample
    before_text: str
    after_text: str
    caption: str


def describe_report(
    report: Mapping[str, Any], weights: Weights | None = None, *, samples: Iterable[AnySample] | None = None
) -> ReportText:
    """Return a report as texts. Facts that the report lacks are left out.

    Args:
        weights: the converted weights, with their speeds and samples.
        samples: samples to show instead of those of `weights`.
    """
    if samples is None:
        samples = weights.samples.all() if weights else ()
    facts: Mapping[str, Any] = report.get("facts") or {}
    classes = [str(name) for name in facts.get("classes") or []]
    return ReportText(
        facts=_facts(report, facts),
        pixels=describe_preprocessing(facts),
        classes=classes[:CLASSES_SHOWN],
        more_classes=max(0, len(classes) - CLASSES_SHOWN),
        files=[
            (name, filesizeformat(about["size"]), about["sha256"])
            for name, about in (facts.get("files") or {}).items()
        ],
        isolation=_isolation(report.get("isolation") or {}),
        checks=[str(one["detail"]) for name in ("checks", "scans") for one in report.get(name) or []],
        choices=_choices(report.get("choices") or []),
        speeds=describe_speeds(weights) if weights else [],
        untried=_untried(report.get("trial") or {}),
        samples=[_sample(row, weights.task) for row in samples] if weights else [],
    )


def describe_preprocessing(facts: Mapping[str, Any]) -> str:
    """Return the preprocessing of a classifier or semantic segmenter, and whether it was assumed.

    Empty for other models.
    """
    if facts.get("task") != "classify" and facts.get("layout") not in ("semantic", "labels"):
        return ""
    parts = [(_normalization(facts), _source(facts, ("mean", "std")))]
    if facts.get("order") == "bgr":
        parts.append((_("BGR channel order"), ""))
    if facts["task"] == "classify":
        parts.append((_shape(facts), _source(facts, ("crop_pct",))))
    return "; ".join(f"{text} ({source})" if source else text for text, source in parts)


def flops_size(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return the width and height of the image that a model's operations were counted for."""
    size = facts.get("input") or {}
    # Generators accept any size. All are counted at the same size.
    usual = TASKS["image"].usual_side
    return (size.get("width") or usual, size.get("height") or usual)


def name_task(task: str) -> str:
    """Return a short name of models of a task: "Detector"."""
    return _(TASKS[task].name) if task in TASKS else task


def _describe_task(task: str) -> str:
    """Return what models of a task do: "Detects objects"."""
    return _(TASKS[task].title) if task in TASKS else task


def _facts(report: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if facts:
        lines.append((_("Recognized as"), str(facts.get("title") or report.get("title", ""))))
        if facts.get("averaged"):
            lines.append(
                (_("Weights"), _("averaged weights in the file, “%(name)s”") % {"name": facts["averaged"]})
            )
        lines.append((_("Task"), _describe_task(facts.get("task", ""))))
        lines.append((_("Input"), _input(facts.get("input") or {})))
        if output := facts.get("output"):
            lines.append((_("Output"), _output(output)))
        if pixels := describe_preprocessing(facts):
            lines.append((_("Preprocessing"), pixels))
        if facts.get("scale", 1) > 1:
            lines.append((_("Upscaling"), f"{facts['scale']}×"))
        lines.append((_("Parameters"), str(intcomma(facts.get("parameters", 0)))))
        if facts.get("flops"):
            lines.append((_("Operations per image"), _operations(facts)))
        difference = _("at most %(found).2g; the limit is %(allowed).2g") % {
            "found": facts.get("difference", 0),
            "allowed": facts.get("tolerance", 0),
        }
        lines.append((_difference_label(facts), difference))
    if report.get("digest"):
        lines.append((_("Digest"), str(report["digest"])))
    if report.get("seconds"):
        lines.append((_("Conversion time"), f"{report['seconds']:.1f} s"))
    return lines


def _difference_label(facts: Mapping[str, Any]) -> str:
    if facts.get("family") == GRAPHS:
        return _("Difference between the uploaded and the optimized graph")
    return _("Difference between CPU and GPU format")


def _normalization(facts: Mapping[str, Any]) -> str:
    mean, std = facts.get("mean") or [0], facts.get("std") or [1]
    if set(mean) == {0} and set(std) == {1}:
        return _("values from 0 to 1")
    numbers = {"mean": ", ".join(map(_number, mean)), "std": ", ".join(map(_number, std))}
    return _("mean %(mean)s, standard deviation %(std)s") % numbers


def _shape(facts: Mapping[str, Any]) -> str:
    text = _cut(facts)
    resample = facts.get("resample")
    if resample not in (None, "bilinear"):
        text += ", " + _("resized with %(filter)s interpolation") % {"filter": resample}
    return text


def _cut(facts: Mapping[str, Any]) -> str:
    crop = facts.get("crop_pct") or 1
    part = {"percent": _number(100 * crop)}
    # Older Vision Transformers lack this fact. They always stretch.
    if facts.get("stretch", facts.get("family") == "vit"):
        if crop == 1:
            return _("whole image, stretched to a square")
        return _("center %(percent)s%% of the image, stretched to a square") % part
    if crop == 1:
        return _("center square of the image")
    return _("center square, %(percent)s%% of the image’s shorter side") % part


def _source(facts: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return whether the values were assumed; empty for older models, which lack this fact."""
    if "assumed" not in facts:
        return ""
    missing = [name in facts["assumed"] for name in names]
    if all(missing):
        return _("assumed")
    return _("partly assumed") if any(missing) else _("as specified")


def _number(value: float) -> str:
    return f"{value:.5g}"


def _operations(facts: Mapping[str, Any]) -> str:
    flops = facts["flops"]
    count = f"{flops / 1e9:,.1f} GFLOPs" if flops >= 1e8 else f"{flops / 1e6:,.1f} MFLOPs"
    width, height = flops_size(facts)
    if facts.get("layout") == "noise":
        return count
    text = _("%(count)s for %(width)d × %(height)d pixels")
    return text % {"count": count, "width": width, "height": height}


def _untried(trial: Mapping[str, Any]) -> str:
    if not trial.get("sentence"):
        return ""
    return _("The trial on sample images failed. %(why)s") % {"why": trial["sentence"]}


def _sample(row: AnySample, task: str) -> SampleText:
    """Return a sample with alternative texts and caption."""
    # Skip confidences that round to 0 %.
    found = ", ".join(_seen(one) for one in row.seen if one.get("confidence", 1) >= 0.005)
    if row.before_id is None:
        after_text, caption = _("Images that the model generated from noise"), _("Generated from noise")
    elif found:
        after_text, caption = _("Result of the model: %(found)s") % {"found": found}, found
    elif task == "image":
        after_text, caption = _("Result of the model"), _("Before and after")
    else:
        after_text = caption = _("Nothing found")
    return SampleText(row, _(row.caption) if row.caption else "", after_text, caption)


def _seen(one: Mapping[str, Any]) -> str:
    if "confidence" in one:
        return f"{one['name']} {one['confidence']:.0%}"
    return f"{one['count']} × {one['name']}"


def _choices(found: Sequence[Mapping[str, Any]]) -> list[LayoutChoice]:
    """Return the choices as texts. The first is the current layout."""
    choices = []
    for position, one in enumerate(found):
        # Older reports lack this key.
        is_recognised = one.get("is_recognised", position == 0)
        origin = _("Recognized") if is_recognised else _("Chosen") if position == 0 else ""
        choices.append(_choice(one, origin))
    return choices


def _choice(one: Mapping[str, Any], origin: str) -> LayoutChoice:
    task, layout = _describe_task(one["task"]), LAYOUTS.get(one["layout"])
    text = f"{task}: {layout}" if layout else task
    if one["classes"]:
        text += ", " + ngettext("%(n)d class", "%(n)d classes", one["classes"]) % {"n": one["classes"]}
    return LayoutChoice(f"{one['task']}:{one['layout']}", text, origin)


def _input(size: Mapping[str, Any]) -> str:
    width, height = size.get("width", 0), size.get("height", 0)
    return f"{width} × {height}" if width and height else _("images of any size")


def _output(output: Mapping[str, Any]) -> str:
    text = _("“%(name)s”, one of %(count)d outputs")
    return text % {"name": output["name"], "count": output["count"]}


def _isolation(found: Mapping[str, Any]) -> list[str]:
    """Return sentences on how the conversion was isolated from the machine."""
    if not found:
        return []
    sentences = [
        _("Converted in a sandbox (bubblewrap) without access to the machine’s files or the network.")
        if found.get("bubblewrap")
        else _(
            "Bubblewrap is not available on this machine. A process with resource limits was used instead."
        )
    ]
    if not found.get("bubblewrap"):
        if found.get("landlock"):
            sentences.append(_("Landlock restricted the process to the files that it needs."))
        sentences.append(
            _("It had no network access.")
            if found.get("network")
            else _("Network access was blocked only by the process itself, not by the system.")
        )
    return sentences
