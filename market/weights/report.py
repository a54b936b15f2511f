"""What a conversion's report tells, and what its trial showed, as pages and the command line say it."""

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
from market.weights.speeds import ToldSpeed, tell_speeds
from workers.bundle import GRAPHS
from workers.tasks import TASKS

CLASSES_SHOWN = 200
LAYOUTS: dict[str, str | Promise] = {
    "anchors": gettext_lazy("a column for each place, boxes and classes (YOLOv8 and later)"),
    "yolov5": gettext_lazy("a row for each place, box, objectness and classes (YOLOv5)"),
    "yolox": gettext_lazy("a row for each cell of a grid, box in cells, objectness and classes (YOLOX)"),
    "yolox-decoded": gettext_lazy(
        "a row for each cell of a grid, box in pixels, objectness and classes (YOLOX)"
    ),
    "end-to-end": gettext_lazy("a row for each thing: corners, confidence, class"),
    "semantic": gettext_lazy("a class for each pixel"),
    "labels": gettext_lazy("the number of a class for each pixel"),
}


@dataclass(frozen=True)
class Told:
    """A report in words: facts as label and text, the classes, the files, how isolated the work was.

    `untried` says why the model could not be tried, and is empty where it was. `pixels` is one of the facts,
    where a model has it.
    """

    facts: list[tuple[str, str]]
    pixels: str
    classes: list[str]
    more_classes: int
    files: list[tuple[str, str, str]]
    isolation: list[str]
    checks: list[str]
    choices: list["ToldChoice"]
    speeds: list[ToldSpeed]
    untried: str
    samples: list["ToldSample"]


@dataclass(frozen=True)
class ToldChoice:
    """A way in which the outputs of a graph may be read: as a form sends it, in words, and who is for it."""

    value: str
    text: str
    said_by: str


@dataclass(frozen=True)
class ToldSample:
    """A sample with words: what the picture before shows, what the one after does, and what stands below."""

    row: AnySample
    before_text: str
    after_text: str
    caption: str


def tell(
    report: Mapping[str, Any], weights: Weights | None = None, *, samples: Iterable[AnySample] | None = None
) -> Told:
    """Return what a report says. What a refused one lacks is left out.

    Args:
        weights: those that came of it, with their speeds and samples.
        samples: other samples than those.
    """
    if samples is None:
        samples = weights.samples.all() if weights else ()
    facts: Mapping[str, Any] = report.get("facts") or {}
    classes = [str(name) for name in facts.get("classes") or []]
    return Told(
        facts=_facts(report, facts),
        pixels=tell_pixels(facts),
        classes=classes[:CLASSES_SHOWN],
        more_classes=max(0, len(classes) - CLASSES_SHOWN),
        files=[
            (name, filesizeformat(about["size"]), about["sha256"])
            for name, about in (facts.get("files") or {}).items()
        ],
        isolation=_isolation(report.get("isolation") or {}),
        checks=[str(one["detail"]) for name in ("checks", "scans") for one in report.get(name) or []],
        choices=_choices(report.get("choices") or []),
        speeds=tell_speeds(weights) if weights else [],
        untried=_untried(report.get("trial") or {}),
        samples=[_sample(row, weights.task) for row in samples] if weights else [],
    )


def tell_pixels(facts: Mapping[str, Any]) -> str:
    """Say how pictures are prepared for a classifier or semantic segmenter, and whether that was assumed.

    Of other models it is empty.
    """
    if facts.get("task") != "classify" and facts.get("layout") not in ("semantic", "labels"):
        return ""
    told = [(_colours(facts), _source(facts, ("mean", "std")))]
    if facts.get("order") == "bgr":
        told.append((_("blue before green and red"), ""))
    if facts["task"] == "classify":
        told.append((_shape(facts), _source(facts, ("crop_pct",))))
    return "; ".join(f"{what} ({source})" if source else what for what, source in told)


def flops_size(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return the width and height of the picture that a model's operations were counted for."""
    size = facts.get("input") or {}
    # Generators take any size: theirs are counted at one that all share.
    usual = TASKS["image"].usual_side
    return (size.get("width") or usual, size.get("height") or usual)


def name_task(task: str) -> str:
    """Say in a word what models of a task are: "Detector"."""
    return _(TASKS[task].name) if task in TASKS else task


def _tell_task(task: str) -> str:
    """Say what models of a task do: "Detects things"."""
    return _(TASKS[task].title) if task in TASKS else task


def _facts(report: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    if facts:
        told.append((_("Recognised as"), str(facts.get("title") or report.get("title", ""))))
        if facts.get("averaged"):
            told.append(
                (_("Weights"), _("the averaged copy in the file, “%(name)s”") % {"name": facts["averaged"]})
            )
        told.append((_("What it does"), _tell_task(facts.get("task", ""))))
        told.append((_("Input"), _input(facts.get("input") or {})))
        if output := facts.get("output"):
            told.append((_("Output"), _output(output)))
        if pixels := tell_pixels(facts):
            told.append((_("Pixels"), pixels))
        if facts.get("scale", 1) > 1:
            told.append((_("Enlarges"), f"{facts['scale']}×"))
        told.append((_("Parameters"), str(intcomma(facts.get("parameters", 0)))))
        if facts.get("flops"):
            told.append((_("Operations a picture"), _operations(facts)))
        difference = _("%(found).2g at most; %(allowed).2g is allowed") % {
            "found": facts.get("difference", 0),
            "allowed": facts.get("tolerance", 0),
        }
        told.append((_compared(facts), difference))
    if report.get("digest"):
        told.append((_("Digest"), str(report["digest"])))
    if report.get("seconds"):
        told.append((_("Took"), f"{report['seconds']:.1f} s"))
    return told


def _compared(facts: Mapping[str, Any]) -> str:
    if facts.get("family") == GRAPHS:
        return _("Difference between the graph as uploaded and as rearranged for speed")
    return _("Difference between CPU and GPU form")


def _colours(facts: Mapping[str, Any]) -> str:
    mean, std = facts.get("mean") or [0], facts.get("std") or [1]
    if set(mean) == {0} and set(std) == {1}:
        return _("from 0 to 1")
    numbers = {"mean": ", ".join(map(_number, mean)), "std": ", ".join(map(_number, std))}
    return _("less %(mean)s, over %(std)s") % numbers


def _shape(facts: Mapping[str, Any]) -> str:
    text = _cut(facts)
    resample = facts.get("resample")
    if resample not in (None, "bilinear"):
        text += ", " + _("resized by %(filter)s interpolation") % {"filter": resample}
    return text


def _cut(facts: Mapping[str, Any]) -> str:
    crop = facts.get("crop_pct") or 1
    part = {"percent": _number(100 * crop)}
    # Vision Transformers were so before their facts told it.
    if facts.get("stretch", facts.get("family") == "vit"):
        if crop == 1:
            return _("the whole picture, squeezed into a square")
        return _("the middle %(percent)s%% of the picture, squeezed into a square") % part
    if crop == 1:
        return _("the middle square of the picture")
    return _("the middle square, %(percent)s%% of the picture’s shorter side") % part


def _source(facts: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Models of before this was written down say nothing."""
    if "assumed" not in facts:
        return ""
    missing = [name in facts["assumed"] for name in names]
    if all(missing):
        return _("assumed")
    return _("partly assumed") if any(missing) else _("as told with it")


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
    return _("It was tried over sample pictures. %(why)s") % {"why": trial["sentence"]}


def _sample(row: AnySample, task: str) -> ToldSample:
    """Put into words what a sample shows: for who cannot see it, and below it."""
    # Guesses that round to nothing say nothing.
    found = ", ".join(_seen(one) for one in row.seen if one.get("confidence", 1) >= 0.005)
    if row.before_id is None:
        made, caption = _("Pictures that the model drew of noise"), _("Drawn of noise")
    elif found:
        made, caption = _("What the model found: %(found)s") % {"found": found}, found
    elif task == "image":
        made, caption = _("What the model made of it"), _("Before and after")
    else:
        made = caption = _("Nothing was found")
    return ToldSample(row, _(row.caption) if row.caption else "", made, caption)


def _seen(one: Mapping[str, Any]) -> str:
    if "confidence" in one:
        return f"{one['name']} {one['confidence']:.0%}"
    return f"{one['count']} × {one['name']}"


def _choices(found: Sequence[Mapping[str, Any]]) -> list[ToldChoice]:
    """Put them into words. The first is how it is read now: as recognised, or as chosen instead."""
    told = []
    for position, one in enumerate(found):
        # Of earlier reports nothing else is known.
        is_recognised = one.get("is_recognised", position == 0)
        said_by = _("Recognised") if is_recognised else _("Chosen") if position == 0 else ""
        told.append(_choice(one, said_by))
    return told


def _choice(one: Mapping[str, Any], said_by: str) -> ToldChoice:
    task, layout = _tell_task(one["task"]), LAYOUTS.get(one["layout"])
    text = f"{task}: {layout}" if layout else task
    if one["classes"]:
        text += ", " + ngettext("%(n)d class", "%(n)d classes", one["classes"]) % {"n": one["classes"]}
    return ToldChoice(f"{one['task']}:{one['layout']}", text, said_by)


def _input(size: Mapping[str, Any]) -> str:
    width, height = size.get("width", 0), size.get("height", 0)
    return f"{width} × {height}" if width and height else _("pictures of any size")


def _output(output: Mapping[str, Any]) -> str:
    text = _("“%(name)s” is read, of %(count)d outputs")
    return text % {"name": output["name"], "count": output["count"]}


def _isolation(found: Mapping[str, Any]) -> list[str]:
    """Say plainly what kept the file's content away from the machine, and what did not."""
    if not found:
        return []
    told = [
        _("Read in a sandbox of its own (bubblewrap): no files of this machine, no network.")
        if found.get("bubblewrap")
        else _("Bubblewrap is not available on this machine; a process with limits of its own was used.")
    ]
    if not found.get("bubblewrap"):
        if found.get("landlock"):
            told.append(_("The kernel left it only the files that it needs (Landlock)."))
        told.append(
            _("It could not reach the network.")
            if found.get("network")
            else _("The network was forbidden to it by its own process only, not by the system.")
        )
    return told
