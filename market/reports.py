"""What a conversion's report tells, as pages and the command line say it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

CLASSES_SHOWN = 200
TASKS: dict[str, str | Promise] = {
    "detect": gettext_lazy("Detects things"),
    "segment": gettext_lazy("Outlines things"),
    "pose": gettext_lazy("Finds poses"),
    "obb": gettext_lazy("Detects things at any angle"),
    "classify": gettext_lazy("Classifies pictures"),
    "image": gettext_lazy("Makes pictures"),
}


@dataclass(frozen=True)
class Told:
    """A report in words: facts as label and text, the classes, the files, how isolated the work was."""

    facts: list[tuple[str, str]]
    classes: list[str]
    more_classes: int
    files: list[tuple[str, str, str]]
    isolation: list[str]
    checks: list[str]


def tell(report: Mapping[str, Any]) -> Told:
    """Return what a report says. What a refused one lacks is left out."""
    facts: Mapping[str, Any] = report.get("facts") or {}
    classes = [str(name) for name in facts.get("classes") or []]
    return Told(
        facts=_facts(report, facts),
        classes=classes[:CLASSES_SHOWN],
        more_classes=max(0, len(classes) - CLASSES_SHOWN),
        files=[
            (name, filesizeformat(about["size"]), about["sha256"])
            for name, about in (facts.get("files") or {}).items()
        ],
        isolation=_isolation(report.get("isolation") or {}),
        checks=[str(one["detail"]) for name in ("checks", "scans") for one in report.get(name) or []],
    )


def _facts(report: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    if facts:
        told.append((_("Recognised as"), str(report.get("title") or facts.get("title", ""))))
        task = facts.get("task", "")
        told.append((_("What it does"), str(TASKS.get(task, task))))
        told.append((_("Input"), _input(facts.get("input") or {})))
        if facts.get("scale"):
            told.append((_("Enlarges"), f"{facts['scale']}×"))
        told.append((_("Parameters"), str(intcomma(facts.get("parameters", 0)))))
        if facts.get("flops"):
            told.append((_("Operations a picture"), f"{facts['flops'] / 1e9:,.1f} GFLOPs"))
        difference = _("%(found).2g at most; %(allowed).2g is allowed") % {
            "found": facts.get("difference", 0),
            "allowed": facts.get("tolerance", 0),
        }
        told.append((_("Difference between CPU and GPU form"), difference))
    if report.get("digest"):
        told.append((_("Digest"), str(report["digest"])))
    if report.get("seconds"):
        told.append((_("Converted in"), f"{report['seconds']:.1f} s"))
    return told


def _input(size: Mapping[str, Any]) -> str:
    width, height = size.get("width", 0), size.get("height", 0)
    return f"{width} × {height}" if width and height else _("pictures of any size")


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
