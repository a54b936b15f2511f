"""Selection and reshaping of the outputs of an ONNX graph.

A graph may have more outputs than its result: features, auxiliary heads and intermediate tensors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from workers.checkpoints.upload import Refused, show
from workers.configs.model_config import Wishes
from workers.families.onnx import surgery
from workers.families.onnx.graph import FORMING, Graph, Output, Size, edit, last_node, last_operator, run_once

Form = Literal["scores", "rows", "map", "other"]

# Largest side of a map cell in input pixels, and largest upscaling factor of a map.
_MOST_PIXELS, _MOST_ENLARGED = 64, 16
# Strides of raw detector outputs, before box decoding.
_CELL_STRIDES = frozenset({8, 16, 32, 64})
_MOST_SHOWN = 6
_MOST_NAME = 40
# Names of result outputs, and of auxiliary outputs.
_RESULT = re.compile(
    r"(logits?|probs?|probabilit(y|ies)|softmax|sigmoid|scores?|class(es|ifier)?|class_logits|pred(iction)?s?"
    r"|out(put)?|main|final|masks?|seg(mentation)?|sem(antic)?(_seg)?|alpha|pha)(_?0)?(:0)?"
)
_BESIDE = re.compile(
    r"(^|[^a-z])(aux|feat|embed|hidden|pool|attention|side|edge|boundary|deep_?sup|backbone|latent|descriptor)"
)
_FEATURES = re.compile(r"(^|[^a-z])(feature|embed|hidden|pooler|latent|descriptor)")
_PARTS = re.compile(
    r"(hm|heatmap|wh|reg|offsets?|loc(ation)?s?|bbox(es)?|box(es)?|landm(ark)?s?|kpts?)(_?\d+)?"
)


@dataclass(frozen=True, eq=False)
class ProbedOutput:
    """An output: its name, and its values for noise, reshaped with channels first."""

    name: str
    values: Output
    form: Form

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


@dataclass(frozen=True)
class Arranged:
    """A graph with only the outputs that are read, the main one first.

    `name` is the name of the main output, `count` the number of outputs of the upload. `heads` has the
    values for noise of `size` (width, height).
    """

    graph: Graph
    heads: tuple[ProbedOutput, ...]
    size: Size
    name: str
    count: int
    is_changed: bool = True

    def last_node(self, forming: frozenset[str] = FORMING) -> Any:
        """Return the node that computes the main output, as `graph.last_node` finds it."""
        model = self.graph.model
        return last_node(model, model.graph.output[0].name, forming)

    def last_operator(self, forming: frozenset[str] = FORMING) -> str | None:
        """Return the operator that computes the main output, as `graph.last_operator` finds it."""
        model = self.graph.model
        return last_operator(model, model.graph.output[0].name, forming)

    @cached_property
    def gives_shares(self) -> bool:
        """Whether the main output is between 0 and 1 for noise, black and white images.

        Cached, because the graph runs twice.
        """
        shape = (1, self.graph.channels, self.size[1], self.size[0])
        images = (np.zeros(shape, np.float32), np.ones(shape, np.float32))
        return is_between(self.heads[0].values) and all(
            is_between(run_once(self.graph, pixels)[0]) for pixels in images
        )


def is_between(values: Output) -> bool:
    """Return whether all values are between 0 and 1."""
    return bool(values.min() >= 0 and values.max() <= 1)


def arrange(graph: Graph, outputs: Sequence[Output], size: Size, wishes: Wishes) -> Arranged:
    """Select the outputs that are read, and reshape them. Raises Refused.

    Args:
        outputs: values for noise of `size` (width, height).
    """
    told = list(graph.model.graph.output)
    steps = [_steps_for(one.name, output, size, graph) for one, output in zip(told, outputs, strict=True)]
    heads = [
        ProbedOutput(one.name, _take(output, there), _form_of(_take(output, there)))
        for one, output, there in zip(told, outputs, steps, strict=True)
    ]
    chosen = _choose(graph, heads, size, wishes)
    places = [heads.index(head) for head in chosen]
    name = chosen[0].name
    if places == list(range(len(heads))) and not any(steps):
        return Arranged(graph, tuple(chosen), size, name, len(heads), is_changed=False)

    def change(model: Any) -> None:
        surgery.keep_outputs(model, [head.name for head in chosen])
        for one, place in zip(list(model.graph.output), places, strict=True):
            if steps[place]:
                surgery.put_behind(model, one, steps[place])

    return Arranged(edit(graph, change), tuple(chosen), size, name, len(heads))


# --- Forms.


def find_scale(sides: Sequence[int], size: Size) -> float | None:
    """Return the side of a map cell in input pixels. `sides` is (height, width), `size` (width, height).

    None if the ratio is neither an integer nor the inverse of one.
    """
    rows, columns = sides
    if rows < 2 or columns < 2:
        return None
    for scale in (size[1] // rows, 1 / max(1, rows // size[1])):
        if not scale or (rows * scale, columns * scale) != (size[1], size[0]):
            continue
        return scale if 1 / _MOST_ENLARGED <= scale <= _MOST_PIXELS else None
    return None


def _steps_for(name: str, output: Output, size: Size, graph: Graph) -> list[surgery.NewNode]:
    """Return the nodes that reshape a map to (1, channels, height, width)."""
    shape, opset = output.shape, surgery.opset_of(graph.model)
    if len(shape) == 4 and _is_last(shape, size, graph):
        return [surgery.transpose(0, 3, 1, 2)]
    if len(shape) == 3 and shape[0] == 1 and (find_scale(shape[1:], size) or _is_labels(graph, name, output)):
        return [surgery.lift([1], opset)]
    if len(shape) == 2 and find_scale(shape, size) is not None:
        return [surgery.lift([0, 1], opset)]
    return []


def _is_labels(graph: Graph, name: str, output: Output) -> bool:
    """Return whether an output has class numbers: integers, or the result of an ArgMax."""
    return output.dtype.kind in "iu" or last_operator(graph.model, name) == "ArgMax"


def _is_last(shape: tuple[int, ...], size: Size, graph: Graph) -> bool:
    """Return whether an output is (1, height, width, channels). If ambiguous, it is like the input."""
    first, last = find_scale(shape[2:], size), find_scale(shape[1:3], size)
    if graph.is_last:
        return last is not None or (first is None and shape[2:] != (1, 1))
    return last is not None and first is None and shape[0] == 1


def _take(output: Output, steps: Sequence[surgery.NewNode]) -> Output:
    """Apply the steps to the values of an output."""
    for step in steps:
        if step.operator == "Transpose":
            output = output.transpose(step.attributes["perm"])
        else:
            output = output.reshape(1, 1, *output.shape[-2:])
    return output


def _form_of(output: Output) -> Form:
    shape = output.shape
    if len(shape) < 2 or (len(shape) == 2 and shape[0] == 1) or (len(shape) == 4 and shape[2:] == (1, 1)):
        return "scores"
    if len(shape) == 3 and shape[0] == 1:
        return "rows"
    return "map" if len(shape) == 4 and shape[0] == 1 else "other"


# --- Selection.


def _choose(graph: Graph, heads: list[ProbedOutput], size: Size, wishes: Wishes) -> list[ProbedOutput]:
    if wishes.output is not None:
        named = [head for head in heads if head.name == wishes.output]
        if not named:
            text = f"It has no output “{show(wishes.output, _MOST_NAME)}”. Its outputs are {_list(heads)}."
            raise Refused(text, code="outputs")
        return _with_prototypes(named[0], heads)
    _refuse_apart(heads)
    _refuse_chosen_boxes(graph, heads)
    left = _leave_out_sources(graph, _leave_out_numbers(heads))
    _refuse_cells(left, size)
    rows = [head for head in left if head.form == "rows"]
    if rows and {head.form for head in left} == {"rows", "map"}:
        return _with_prototypes(max(rows, key=_rate), left)
    return [_choose_one(left, heads, wishes)]


def _with_prototypes(main: ProbedOutput, heads: Sequence[ProbedOutput]) -> list[ProbedOutput]:
    """Return the rows of a detector together with its mask prototypes, if it has any."""
    maps = [head for head in heads if head.form == "map" and head is not main]
    return [main, *maps[:1]] if main.form == "rows" else [main]


def _choose_one(left: Sequence[ProbedOutput], heads: Sequence[ProbedOutput], wishes: Wishes) -> ProbedOutput:
    """Return the most likely result. Raises Refused if several different outputs are equally likely."""
    named = [head for head in left if wishes.names and _classes_of(head) == len(wishes.names)]
    best = max(_rate(head) for head in named or left)
    likely = [head for head in named or left if _rate(head) == best]
    forms = [form for form in ("scores", "map", "rows", "other") if any(head.form == form for head in likely)]
    likely = [head for head in likely if head.form == forms[0]]
    if len({head.shape for head in likely}) > 1:
        text = (
            f"It has several possible results: {_list(heads)}. Select one in the config.json, for example "
            f"{{“output”: “{show(likely[0].name, _MOST_NAME)}”}}."
        )
        raise Refused(text, code="outputs")
    return likely[0]


def _rate(head: ProbedOutput) -> int:
    """Return a score of how likely the name is that of a result: -1, 0 or 1."""
    name = head.name.rsplit("/", 1)[-1].casefold()
    if _BESIDE.search(name):
        return -1
    return 1 if _RESULT.fullmatch(name) else 0


def _classes_of(head: ProbedOutput) -> int:
    return int(np.prod(head.shape)) if head.form == "scores" else head.shape[1]


def is_features(head: ProbedOutput) -> bool:
    """Return whether scores are an embedding, by their name or their unit length."""
    values = head.values.astype(np.float64).ravel()
    if head.form != "scores" or len(values) < 2:
        return False
    is_unit = len(values) >= 16 and values.min() < 0 and abs(float(values @ values) - 1) < 1e-3
    return is_unit or _FEATURES.search(head.name.casefold()) is not None


def _leave_out_numbers(heads: list[ProbedOutput]) -> list[ProbedOutput]:
    """Drop integer outputs, such as the best class, if the scores are an output too.

    Keep label maps if the only other maps are their confidences.
    """
    full = [head for head in heads if head.values.dtype.kind == "f"]
    labels = [head for head in heads if head.form == "map" and head.values.dtype.kind in "iu"]
    if labels and all(head.form == "map" and head.shape[1] == 1 for head in full):
        return labels
    return full or heads


def _leave_out_sources(graph: Graph, heads: list[ProbedOutput]) -> list[ProbedOutput]:
    """Drop outputs from which another output is computed, such as features."""
    if len(heads) == 1:
        return heads
    makers = {name: node for node in graph.model.graph.node for name in node.output}
    sources = {head.name: _trace(head.name, makers) for head in heads}

    def is_source(head: ProbedOutput) -> bool:
        behind = [other for other in heads if head.name in sources[other.name]]
        # Keep it if its name is that of a result.
        return any(_rate(other) >= _rate(head) for other in behind)

    return [head for head in heads if not is_source(head)] or heads


def _trace(name: str, makers: dict[str, Any]) -> set[str]:
    """Return the names of all tensors from which a tensor is computed."""
    found, waiting = set[str](), [name]
    while waiting:
        node = makers.get(waiting.pop())
        for source in node.input if node is not None else ():
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found - {name}


def _list(heads: Sequence[ProbedOutput]) -> str:
    shown = [f"“{show(head.name, _MOST_NAME)}” {list(head.shape)}" for head in heads[:_MOST_SHOWN]]
    return ", ".join(shown) + (" …" if len(heads) > _MOST_SHOWN else "")


# --- Refusals that depend on several outputs.


def _refuse_apart(heads: Sequence[ProbedOutput]) -> None:
    shapes = [tuple(side for side in head.shape if side != 1) for head in heads]
    if any(_are_beside(boxes, shapes, at) for at, boxes in enumerate(shapes) if _are_boxes(heads[at])):
        text = (
            "It has separate outputs for boxes, scores and labels. Export it with one output, where each row "
            "has the corners in pixels, the score and the class."
        )
        raise Refused(text, code="outputs")
    if len(heads) > 1 and any(_PARTS.fullmatch(head.name.casefold()) for head in heads):
        text = (
            f"It has separate outputs for the parts of detections: {_list(heads)}. Export it with boxes, "
            "scores and classes in one output."
        )
        raise Refused(text, code="outputs")


def _are_boxes(head: ProbedOutput) -> bool:
    """Return whether the shape is (n, 4), (4, n), or (n, 5) with scores, ignoring sides of 1."""
    return 4 in head.shape or (len(head.shape) == 3 and head.shape[2] == 5)


def _are_beside(boxes: tuple[int, ...], shapes: Sequence[tuple[int, ...]], at: int) -> bool:
    """Return whether other outputs have scores or labels for the same number of boxes."""
    others = [shape for place, shape in enumerate(shapes) if place != at]
    if boxes in ((4,), (5,)):
        return others.count(()) >= 2
    if len(boxes) != 2 or not {4, 5} & set(boxes):
        return False
    count = boxes[0] if boxes[1] in (4, 5) else boxes[1]
    with_score = boxes[1] == 5
    alone = [shape for shape in others if shape == (count,)]
    scores = [shape for shape in others if len(shape) == 2 and count in shape]
    return bool(alone) or (not with_score and bool(scores))


def _refuse_cells(heads: Sequence[ProbedOutput], size: Size) -> None:
    """Raise Refused for raw detector outputs: maps of several strides, some with five dimensions."""
    scales = {find_scale(head.shape[2:], size) for head in heads if head.form == "map"}
    is_deep = len(heads) > 1 and all(len(head.shape) == 5 for head in heads)
    if is_deep or (len(scales) > 1 and scales <= _CELL_STRIDES):
        text = (
            f"It returns raw detector maps without box decoding: {_list(heads)}. Export it with box "
            "decoding, in pixels and in one output."
        )
        raise Refused(text, code="outputs")


def _refuse_chosen_boxes(graph: Graph, heads: Sequence[ProbedOutput]) -> None:
    """Raise Refused for graphs with NMS and a variable number of rows: the order of columns is unknown."""
    has_nms = any(node.op_type == "NonMaxSuppression" for node in graph.model.graph.node)
    if has_nms and any(len(head.shape) == 2 and head.shape[1] in (6, 7) for head in heads):
        text = (
            "It contains NonMaxSuppression and returns a variable number of rows. Export it without NMS, or "
            "with one output (1, n, 6): corners in pixels, score and class."
        )
        raise Refused(text, code="outputs")
