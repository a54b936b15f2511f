"""What an uploaded graph does, recognised from its outputs for noise, its operators and its config."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers.checkpoints.upload import Refused, Upload, show
from workers.configs.model_config import Wishes, read_wishes
from workers.families.onnx.graph import (
    FORMING,
    Floats,
    Graph,
    Output,
    Size,
    last_node,
    last_operator,
    measure,
    run_once,
)
from workers.families.onnx.output_layouts import (
    LABELS,
    SEMANTIC,
    Plan,
    choose_plans,
    list_choices,
    plan_outputs,
)
from workers.families.onnx.outputs import Arranged, Head, find_scale, is_features
from workers.vision.detection_outputs import LAYOUTS

MOST_CLASSES = 255
# What ends in these gives shares.
_GIVING_SHARES = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
_EACH_BY_ITSELF = frozenset({"Sigmoid", "HardSigmoid"})
# What ends in these may: no layer with weights gives numbers from 0 to 1 whatever it is shown.
_BOUNDING = frozenset({"Clip", "Div", "Exp", "Max", "Min", "Mul", "Pow", "Reciprocal", "Sub", "Where"})
# What ends in these may give any number, logits too.
_AFFINE = frozenset({"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOST_LOGIT = 100
_COMPARING = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)
# Behind which shares are shares, and logits logits.
_PARTS = frozenset({
    "AveragePool", "Gather", "GatherElements", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax",
    "ReduceMean", "Slice", "Split",
})  # fmt: skip
_RESIZING = frozenset({"Gather", "Resize", "Slice", "Upsample"})
# Cells of so many pixels, across and down, are features or a detector's, unless their classes are named.
_COARSE = 16
# More different bytes than this are those of a picture.
_MOST_LABELS_SEEN = 64
_ROUNDED = 0.01
# Training leaves out what has this label.
_LEFT_OUT = 255


@dataclass(frozen=True)
class Recognised:
    """The ways in which outputs may be read, the likeliest first, and what their scores are.

    `scores` is "logits", "probabilities" or "sigmoid" of a classifier, as `classifying.to_shares` has it, and
    "logits", "shares" or "sigmoid" of classes of pixels, as `labelling.choose` does. Both are in
    `workers.vision`.
    """

    plans: tuple[Plan, ...]
    scores: str = ""


def recognise(arranged: Arranged, size: Size, wishes: Wishes) -> Recognised:
    """Say what a graph does that was run over noise of `size`. Raises Refused."""
    head = arranged.heads[0]
    if head.form == "scores":
        return _recognise_scores(arranged, size, wishes)
    if head.form == "map" and wishes.task != "image":
        return _recognise_map(arranged, size, wishes)
    plans = choose_plans([one.values for one in arranged.heads], size, wishes)
    return Recognised(tuple(plans))


def recognise_untold(arranged: Arranged, size: Size, upload: Upload) -> Plan | None:
    """Return how it would be read had nobody said what it is for; None where that cannot be told."""
    said = {name: value for name, value in (upload.config or {}).items() if name not in ("task", "layout")}
    try:
        return recognise(arranged, size, read_wishes(said, upload.metadata)).plans[0]
    except Refused:
        return None


# --- Classifiers.


def _recognise_scores(arranged: Arranged, size: Size, wishes: Wishes) -> Recognised:
    head = arranged.heads[0]
    if head.values.dtype.kind != "f":
        text = (
            "It gives the number of the best class alone. Export the scores of all classes: leave ArgMax out."
        )
        raise Refused(text, code="outputs")
    if last_operator(arranged.graph.model, _output_of(arranged.graph)) == "TopK":
        text = (
            f"It gives the {head.values.size} best scores alone. Export those of all classes: leave TopK out."
        )
        raise Refused(text, code="outputs")
    if head.values.size == 1:
        return _recognise_number(arranged, size, wishes)
    if not wishes.names and is_features(head):
        text = (
            f"Its output “{show(head.name, 40)}” has {head.values.size} features, which tell no classes. "
            "Export the model with the layer that classifies; where these are classes, name them in the "
            "config.json."
        )
        raise Refused(text, code="outputs")
    plan = plan_outputs([(1, head.values.size)], size, wishes)
    return Recognised((plan,), _scores_of_classifier(arranged.graph, head, size, wishes))


def _recognise_number(arranged: Arranged, size: Size, wishes: Wishes) -> Recognised:
    """One number tells two classes apart: it is the share of the second, or that one's logit."""
    head = arranged.heads[0]
    operator = last_operator(arranged.graph.model, _output_of(arranged.graph), FORMING | _PARTS)
    is_bounded = operator in _BOUNDING and _gives_shares(arranged.graph, head.values, size)
    is_share = operator in _GIVING_SHARES or is_bounded
    if operator == "Softmax" and float(head.values.ravel()[0]) == 1:
        text = "Its Softmax is over one number, so that it always gives 1: export it with a Sigmoid instead."
        raise Refused(text, code="outputs")
    if not (is_share or wishes.names or wishes.task == "classify"):
        text = (
            "It gives one number, and nothing says what that is. Of a classifier with two classes, name them "
            "in the config.json: {“names”: [“no”, “yes”]}. Models that measure something, such as an age, "
            "are not run."
        )
        raise Refused(text, code="outputs")
    if len(wishes.names) > 2:
        text = f"One number tells two classes apart, but {len(wishes.names)} names were given."
        raise Refused(text, code="names")
    plan = plan_outputs([(1, 2)], size, wishes.model_copy(update={"names": ()}))
    said = {"logits": "sigmoid", "sigmoid": "sigmoid"}.get(wishes.layout or "")
    return Recognised((plan,), said or ("probabilities" if is_share else "sigmoid"))


def _scores_of_classifier(graph: Graph, head: Head, size: Size, wishes: Wishes) -> str:
    if wishes.layout in ("logits", "sigmoid"):
        return wishes.layout
    shares = head.values.reshape(-1)
    is_whole = shares.min() >= 0 and abs(float(shares.sum()) - 1) < _ROUNDED
    operator = last_operator(graph.model, _output_of(graph), FORMING | _PARTS)
    # Those of quantised graphs are rounded, and do not always sum up to one.
    is_made = wishes.is_ultralytics or operator in _GIVING_SHARES
    if wishes.scores == "sigmoid" and not is_made:
        return "sigmoid"
    if is_whole or is_made or (operator in _BOUNDING and _gives_shares(graph, head.values, size)):
        return "probabilities"
    return "logits"


def _gives_shares(graph: Graph, values: Output, size: Size) -> bool:
    """Whether its first output lies between 0 and 1 for noise, for black and for white."""
    shape = (1, graph.channels, size[1], size[0])
    black, white = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    return _is_between(values) and all(_is_between(run_once(graph, pixels)[0]) for pixels in (black, white))


def _is_between(values: Output) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _output_of(graph: Graph) -> str:
    name: str = graph.model.graph.output[0].name
    return name


# --- Classes of pixels.


def _recognise_map(arranged: Arranged, size: Size, wishes: Wishes) -> Recognised:
    head = arranged.heads[0]
    if head.shape[1] == 1:
        return _recognise_plane(arranged, size, wishes)
    first = plan_outputs([head.shape], size, wishes)
    plans = tuple(list_choices([head.shape], size, wishes, first))
    scale = find_scale(head.shape[2:], size)
    if first.layout == SEMANTIC and not wishes.names and scale and scale >= _COARSE:
        text = (
            f"Its output {list(head.shape)} has cells of {scale} × {scale} pixels: features, or what a "
            "detector gives before boxes are made of it. Export the whole model; where these are classes of "
            "pixels, name them in the config.json."
        )
        raise Refused(text, code="outputs")
    return Recognised(plans, _scores_of_pixels(arranged.graph, head, size))


def _recognise_plane(arranged: Arranged, size: Size, wishes: Wishes) -> Recognised:
    """One number for each pixel: the number of its class, or how sure one class is there."""
    graph, head = arranged.graph, arranged.heads[0]
    operator = last_operator(graph.model, _output_of(graph), FORMING | _RESIZING)
    values = head.values
    is_mask = values.dtype.kind == "b" or operator in _COMPARING or _is_between(values)
    # Noise may show two of many classes.
    is_named = len(wishes.names) > 2 and bool((values == np.rint(values)).all())
    has_labels = is_named or _has_labels(head, operator, is_mask=is_mask)
    if wishes.layout == LABELS or (wishes.layout != SEMANTIC and has_labels):
        return Recognised((_plan_labels(graph, head, size, wishes),))
    if not is_mask and values.min() >= 0 and (operator not in _AFFINE or values.max() > _MOST_LOGIT):
        text = (
            f"It gives one number for each pixel, up to {float(values.max()):.3g} for noise: no share of a "
            "class, and no logit. Models that measure something, such as depth, are not run. A model that "
            "makes gray pictures needs “task”: “image” in the config.json, one that tells classes of pixels "
            "“layout”: “labels”."
        )
        raise Refused(text, code="outputs")
    if len(wishes.names) == 2:
        # Of what is there, and of what is not: the number is the second one's.
        wishes = wishes.model_copy(update={"names": wishes.names[1:]})
    first = plan_outputs([head.shape], size, wishes)
    plans = list_choices([head.shape], size, wishes, first)
    return Recognised(tuple(plans), _scores_of_pixels(graph, head, size))


def _has_labels(head: Head, operator: str | None, *, is_mask: bool) -> bool:
    values = head.values
    if operator == "ArgMax":
        return True
    if operator in _COMPARING or values.dtype.kind == "b":
        return False
    if values.dtype.kind in "iu":
        return values.dtype != np.uint8 or len(np.unique(values)) <= _MOST_LABELS_SEEN
    if is_mask or values.min() < -1 or values.max() > MOST_CLASSES:
        return False
    return bool((values == np.rint(values)).all())


def _plan_labels(graph: Graph, head: Head, size: Size, wishes: Wishes) -> Plan:
    """Return how labels are read, whose classes are counted by names or by what an ArgMax chose from."""
    if wishes.task not in (None, "segment"):
        text = f"It is said to be for the task “{wishes.task}”, but its outputs are those of “segment”."
        raise Refused(text, code="task")
    chosen = _count_choices(graph, size)
    if wishes.names and chosen and chosen != len(wishes.names):
        text = f"It has {chosen} classes, but {len(wishes.names)} names were given."
        raise Refused(text, code="names")
    count = len(wishes.names) or chosen or 0
    seen = head.values[(head.values >= 0) & (head.values != _LEFT_OUT)]
    highest = int(seen.max(initial=0))
    if max(count, highest + 1) > MOST_CLASSES:
        text = (
            f"It tells {max(count, highest + 1)} classes of pixels apart; at most {MOST_CLASSES} are "
            f"possible."
        )
        raise Refused(text, code="outputs")
    if count and highest >= count:
        text = f"It gives the class {highest}, counted from 0, but {count} names were given."
        raise Refused(text, code="names")
    return Plan("segment", LABELS, count)


def _count_choices(graph: Graph, size: Size) -> int | None:
    """Return how many classes the ArgMax at a graph's end chooses from; None where there is none."""
    node = last_node(graph.model, _output_of(graph), FORMING | _RESIZING)
    if node is None or node.op_type != "ArgMax":
        return None
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    shape = measure(graph, node.input[0], size)
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _scores_of_pixels(graph: Graph, head: Head, size: Size) -> str:
    operator = last_operator(graph.model, _output_of(graph), FORMING | _RESIZING)
    values: Floats = head.values.astype(np.float32)
    sums = np.abs(values.sum(axis=1) - 1).max() < _ROUNDED
    is_one = values.shape[1] == 1
    if operator in _EACH_BY_ITSELF:
        return "shares" if is_one else "sigmoid"
    if values.min() >= 0 and sums and not is_one:
        return "shares"
    is_share = operator in _GIVING_SHARES | _COMPARING or head.values.dtype.kind == "b"
    if not is_share and not _gives_shares(graph, values, size):
        return "logits"
    if not is_share and operator not in _BOUNDING:
        # By chance, or not: each picture tells.
        return "" if is_one else "logits"
    return "shares" if is_one or operator == "Softmax" else "sigmoid"


def is_detector(plan: Plan) -> bool:
    return plan.layout in LAYOUTS
