"""Wrappers of checkpoints: under which prefixes a network's tensors lie, and which copy of them is averaged.

Training often keeps a moving average of the weights (EMA, SWA) beside the weights themselves. The averaged
ones are what its authors evaluate and release, so they are preferred.
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
# What DataParallel, torch.compile, Lightning and averaging put before every name.
_SHELLS = ("module", "_orig_mod", "model", "net", "shadow", "state_dict", "params")
_DEEPEST = 4
# Averaged copies that are looked into. There is one, or one for each of a few rates.
_MOST_COPIES = 8
# A word of a name that says it is an average: "params_ema", "ema_model", "swa_model"; "netGEMA", "modelEma".
_AVERAGE = re.compile(r"(?<![^_-])(?:ema|swa|averaged|average|avg|shadow)(?![^_-])", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])E(?:MA|ma)(?=[A-Z_]|$)|(?<=[A-Z])EMA$")
# Without that word, an averaged copy of whatever model there is.
_GENERAL = frozenset({"", "model", "module", "net", "params", "state_dict", "model_state_dict", "weights"})
# Numbers that averaging keeps beside the tensors: PyTorch, ema-pytorch, latent diffusion, torch-ema.
_COUNTERS = frozenset({"n_averaged", "initted", "step", "num_updates", "decay", "updates"})
# What a network measures rather than learns. Averages of parameters alone leave it to the network itself.
_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")
# The names of a list, such as that of torch-ema: "shadow_params.0".
_NUMBERED = re.compile(r"(.*\.)?(\d+)")


@dataclass(frozen=True)
class CheckpointReading:
    """One way to read a checkpoint: tensors by the names that are left inside a wrapper.

    `averaged` is the wrapper of the averaged copy that they are, or empty. `ignored` are the wrappers of
    averaged copies that belong to these tensors and were passed over. `is_whole` is False for an averaged
    copy without a plain one beside it, which may lack buffers.
    """

    tensors: dict[str, Any]
    averaged: str = ""
    ignored: tuple[str, ...] = ()
    is_whole: bool = True

    @property
    def shown_name(self) -> str | None:
        """The averaged copy's name without what cannot be printed; None where the tensors are no average."""
        return show(self.averaged, MOST_NAME).strip() or None

    def refuse_ignored(self) -> None:
        """Raise Refused if an averaged copy belongs to these tensors and could not be read."""
        if self.ignored:
            text = (
                f"It holds an averaged copy of the weights, “{show(self.ignored[0], 60)}”, whose tensors are "
                "not those of the network beside it. Save the averaged weights alone as a state dict, or "
                "leave them out."
            )
            raise Refused(text, code="tensors")


def list_readings(tensors: Tensors) -> Iterator[CheckpointReading]:
    """Yield the ways to read a checkpoint's names, the likeliest first: averaged copies before the others."""
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
    """Return an average whose tensors lie among those of the network, each part of it with a name of its own.

    Where "ema_body.0.weight" is the average of "body.0.weight". None where they are not the network's.
    """
    averaged = {f"{_base(first)}.{name}": t for first in averages for name, t in groups[first].items()}
    is_whole = all(name in averaged or name.endswith(_BUFFERS) for name in plain)
    return {**plain, **averaged} if averaged and averaged.keys() <= plain.keys() and is_whole else None


def _group(tensors: Tensors) -> dict[str, dict[str, Any]]:
    """Return the tensors below each first part of their names."""
    groups: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = tensor
    return groups


def _wrappers_of(groups: Mapping[str, object]) -> Iterable[str]:
    """Return the parts of a checkpoint to look into: those with known names, or the only one there is."""
    plain = [first for first in groups if not _is_averaged(first)]
    known = [name for name in _WRAPPERS if name in plain]
    return known or (plain if len(plain) == 1 else ())


def _is_averaged(name: str) -> bool:
    return _AVERAGE.search(name) is not None or _CAMEL.search(name) is not None


def _base(name: str) -> str:
    """Return what the plain copy of an averaged one is called: "netG" for "netG_ema"."""
    return _AVERAGE.sub("", _CAMEL.sub("", name)).strip("_-").replace("__", "_")


def _plain_copies(tensors: Tensors, groups: Mapping[str, Tensors], averaged: str) -> Iterator[Tensors]:
    """Yield what an averaged copy may be the average of."""
    names = [_base(averaged), *(_WRAPPERS if _base(averaged) in _GENERAL else ())]
    for name in names:
        if name in groups:
            yield groups[name]
    yield {name: tensor for name, tensor in tensors.items() if not _is_averaged(name.partition(".")[0])}


def _complete(averaged: Tensors, plain: Iterable[Tensors]) -> tuple[dict[str, Any], bool]:
    """Return an averaged copy without its counters, and with the buffers that it lacks; whether a plain one
    fits.

    An average of parameters alone is used by copying it over the model's parameters, which keeps the model's
    own buffers: `copy_to` of torch-ema and of latent diffusion. The names are then those of the plain copy.
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
    """Return the averaged tensor's name for each name of the plain copy; nothing where some match none.

    Latent diffusion keeps averages as buffers, whose names may have no dots. torch-ema numbers them in the
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
    """Return full names by what is left of them without the wrappers that all of them begin with."""
    start = ""
    names = [name for name in tensors if name not in _COUNTERS]
    for _ in range(_DEEPEST):
        firsts = {name.removeprefix(start).partition(".")[0] for name in names}
        if len(firsts) != 1 or (first := firsts.pop()) not in _SHELLS:
            break
        start += f"{first}."
    return {name.removeprefix(start): name for name in names}
