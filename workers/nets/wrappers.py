"""Checkpoint wrappers: find the prefixes of a network's tensors, and prefer the averaged copy (EMA, SWA).

Training often saves a moving average of the weights next to the weights. Authors evaluate and release the
averaged ones, so they are preferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.checkpoints.class_names import MOST_NAME
from workers.checkpoints.upload import Refused, show

Tensors = Mapping[str, Any]

_WRAPPERS = (
    "params", "state_dict", "model_state_dict", "generator_state_dict", "netG_state_dict", "G_state_dict",
    "generator", "netG", "net_g", "G", "g", "gen", "online_model", "module", "model", "net",
)  # fmt: skip
# Prefixes that DataParallel, torch.compile, Lightning and averaging add to every name.
_SHELLS = ("module", "_orig_mod", "model", "net", "shadow", "state_dict", "params")
_DEEPEST = 4
# Most averaged copies that are tried. Checkpoints have one, or one for each of a few rates.
_MOST_COPIES = 8
# A part of a name that marks an average: "params_ema", "ema_model", "swa_model"; "netGEMA", "modelEma".
_AVERAGE = re.compile(r"(?<![^_-])(?:ema|swa|averaged|average|avg|shadow)(?![^_-])", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])E(?:MA|ma)(?=[A-Z_]|$)|(?<=[A-Z])EMA$")
# Averaged copies with these base names belong to any model.
_GENERAL = frozenset({"", "model", "module", "net", "params", "state_dict", "model_state_dict", "weights"})
# Counters that averaging saves next to the tensors: PyTorch, ema-pytorch, latent diffusion, torch-ema.
_COUNTERS = frozenset({"n_averaged", "initted", "step", "num_updates", "decay", "updates"})
# Buffers of a network. An average of parameters only does not have them.
_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")
# Names of list entries, as in torch-ema: "shadow_params.0".
_NUMBERED = re.compile(r"(.*\.)?(\d+)")


@dataclass(frozen=True)
class CheckpointReading:
    """One reading of a checkpoint: tensors by their names inside a wrapper.

    Attributes:
        averaged: wrapper of the averaged copy that the tensors belong to, or empty.
        ignored: wrappers of averaged copies of these tensors that were not used.
        is_whole: False for an averaged copy without a plain copy. It may lack buffers.
    """

    tensors: dict[str, Any]
    averaged: str = ""
    ignored: tuple[str, ...] = ()
    is_whole: bool = True

    @property
    def shown_name(self) -> str | None:
        """The printable name of the averaged copy. None: the tensors are not an average."""
        return show(self.averaged, MOST_NAME).strip() or None

    def refuse_ignored(self) -> None:
        """Raise Refused if an averaged copy of these tensors could not be read."""
        if self.ignored:
            text = (
                f"It has an averaged copy of the weights, “{show(self.ignored[0], 60)}”, with other tensors "
                "than the network. Save only the averaged weights as a state dict, or remove them."
            )
            raise Refused(text, code="tensors")


def list_readings(tensors: Tensors) -> Iterator[CheckpointReading]:
    """Yield the readings of a checkpoint, the most likely first: averaged copies before others."""
    return _descend(CheckpointReading(dict(tensors)), "", _DEEPEST)


def _descend(reading: CheckpointReading, path: str, depth: int) -> Iterator[CheckpointReading]:
    tensors = reading.tensors
    groups = _group(tensors) if depth else {}
    averages = [first for first in groups if _is_averaged(first) and groups[first].keys() - _COUNTERS]
    known = [first for first in averages if _base(first) in _GENERAL or _base(first) in _WRAPPERS]
    for first in known[:_MOST_COPIES]:
        inner, is_whole = _complete(groups[first], _plain_copies(tensors, groups, first))
        copy = CheckpointReading(inner, f"{path}{first}", is_whole=is_whole)
        yield from _descend(copy, f"{path}{first}.", depth - 1)
    apart = set(averages)
    left = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in apart}
    merged = _merge_prefixed(left, groups, averages)
    if merged is not None:
        yield from _descend(CheckpointReading(merged, f"{path}{averages[0]}"), path, depth - 1)
    here = (*reading.ignored, *(f"{path}{first}" for first in averages if _base(first) in _GENERAL))
    beside = tuple(f"{path}{first}" for first in averages if _base(first) in groups)
    yield CheckpointReading(left, reading.averaged, (*here, *beside), reading.is_whole)
    for first in _wrappers_of(groups):
        own = tuple(f"{path}{one}" for one in averages if _base(one) == first and first not in _GENERAL)
        inside = CheckpointReading(groups[first], reading.averaged, (*here, *own), reading.is_whole)
        yield from _descend(inside, f"{path}{first}.", depth - 1)


def _merge_prefixed(
    plain: dict[str, Any], groups: Mapping[str, Tensors], averages: Iterable[str]
) -> dict[str, Any] | None:
    """Return an average with its tensors next to the network's, or None if they do not match.

    For example, "ema_body.0.weight" is the average of "body.0.weight".
    """
    averaged = {f"{_base(first)}.{name}": t for first in averages for name, t in groups[first].items()}
    is_whole = all(name in averaged or name.endswith(_BUFFERS) for name in plain)
    return {**plain, **averaged} if averaged and averaged.keys() <= plain.keys() and is_whole else None


def _group(tensors: Tensors) -> dict[str, dict[str, Any]]:
    """Return the tensors grouped by the first part of their names."""
    groups: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = tensor
    return groups


def _wrappers_of(groups: Mapping[str, object]) -> Iterable[str]:
    """Return the groups to search: those with known names, or the only one."""
    plain = [first for first in groups if not _is_averaged(first)]
    known = [name for name in _WRAPPERS if name in plain]
    return known or (plain if len(plain) == 1 else ())


def _is_averaged(name: str) -> bool:
    return _AVERAGE.search(name) is not None or _CAMEL.search(name) is not None


def _base(name: str) -> str:
    """Return the plain copy's name for an averaged one: "netG" for "netG_ema"."""
    return _AVERAGE.sub("", _CAMEL.sub("", name)).strip("_-").replace("__", "_")


def _plain_copies(tensors: Tensors, groups: Mapping[str, Tensors], averaged: str) -> Iterator[Tensors]:
    """Yield the plain copies that may belong to an averaged copy."""
    names = [_base(averaged), *(_WRAPPERS if _base(averaged) in _GENERAL else ())]
    for name in names:
        if name in groups:
            yield groups[name]
    yield {name: tensor for name, tensor in tensors.items() if not _is_averaged(name.partition(".")[0])}


def _complete(averaged: Tensors, plain: Iterable[Tensors]) -> tuple[dict[str, Any], bool]:
    """Return an averaged copy without counters and with all buffers, and whether a plain copy matches it.

    Training code copies an average of parameters over the model's parameters, and keeps the model's buffers:
    `copy_to` of torch-ema and latent diffusion. So the result has the names and buffers of the plain copy.
    """
    own = {name: tensor for name, tensor in averaged.items() if name not in _COUNTERS}
    for copy in plain:
        theirs = _unshell(copy)
        found = _match(own, copy, theirs)
        if found and all(name in found or name.endswith(_BUFFERS) for name in theirs):
            whole = {full: own[found[name]] if name in found else copy[full] for name, full in theirs.items()}
            return whole, True
    return own, False


def _match(averaged: Tensors, plain: Tensors, names: Mapping[str, str]) -> dict[str, str]:
    """Return the averaged tensor's name for each name of the plain copy. Empty: they do not match.

    Latent diffusion saves averages as buffers, without dots in their names. torch-ema numbers them in the
    order of the parameters.
    """
    ours = _unshell(averaged)
    if ours.keys() <= names.keys():
        return ours
    if all(_NUMBERED.fullmatch(name) for name in averaged):
        return _match_by_order(averaged, plain, names)
    undotted = {name.replace(".", ""): name for name in names}
    is_flat = len(undotted) == len(names) and averaged.keys() <= undotted.keys()
    return {undotted[name]: name for name in averaged} if is_flat else {}


def _match_by_order(averaged: Tensors, plain: Tensors, names: Mapping[str, str]) -> dict[str, str]:
    parameters = [name for name in names if not name.endswith(_BUFFERS)]
    ours = sorted(averaged, key=lambda name: int(name.rpartition(".")[2]))
    if len(ours) != len(parameters) or [int(n.rpartition(".")[2]) for n in ours] != list(range(len(ours))):
        return {}
    pairs = dict(zip(parameters, ours, strict=True))
    fits = all(tuple(plain[names[name]].shape) == tuple(averaged[own].shape) for name, own in pairs.items())
    return pairs if fits else {}


def _unshell(tensors: Tensors) -> dict[str, str]:
    """Return full names by their names without the prefixes that all of them share."""
    start = ""
    names = [name for name in tensors if name not in _COUNTERS]
    for _ in range(_DEEPEST):
        firsts = {name.removeprefix(start).partition(".")[0] for name in names}
        if len(firsts) != 1 or (first := firsts.pop()) not in _SHELLS:
            break
        start += f"{first}."
    return {name.removeprefix(start): name for name in names}
