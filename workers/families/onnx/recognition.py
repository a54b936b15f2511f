"""What an uploaded graph does, recognised from its outputs for noise, its operators and its config."""

from __future__ import annotations

import numpy as np

from workers.checkpoints.upload import Refused, WeightsUpload, show
from workers.configs.model_config import Wishes, read_wishes
from workers.families.onnx.graph import FORMING, Floats, measure
from workers.families.onnx.output_layouts import (
    LABELS,
    SEMANTIC,
    OutputPlan,
    check_plan,
    choose_plans,
    list_choices,
    plan_outputs,
    refuse_many_classes,
)
from workers.families.onnx.outputs import Arranged, ProbedOutput, find_scale, is_between, is_features
from workers.vision.semantic_segmentation import MOST_CLASSES, NO_CLASS

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


def list_plans(arranged: Arranged, wishes: Wishes) -> tuple[OutputPlan, ...]:
    """Return the ways in which the outputs of a graph may be read, the likeliest first. Raises Refused."""
    head = arranged.heads[0]
    if head.form == "scores":
        return (_plan_scores(arranged, wishes),)
    if head.form == "map" and wishes.task != "image":
        return _plan_map(arranged, wishes)
    return tuple(choose_plans([one.values for one in arranged.heads], arranged.size, wishes))


def recognise_untold(arranged: Arranged, upload: WeightsUpload) -> OutputPlan | None:
    """Return how it would be read had nobody said what it is for; None where that cannot be told."""
    said = {name: value for name, value in (upload.config or {}).items() if name not in ("task", "layout")}
    try:
        return list_plans(arranged, read_wishes(said, upload.metadata))[0]
    except Refused:
        return None


def recognise_scores(arranged: Arranged, wishes: Wishes, plan: OutputPlan) -> str:
    """Return what the numbers of each class are where a graph is read by `plan`.

    "logits", "probabilities" or "sigmoid" of a classifier, as `workers.vision.classify.to_shares` takes them.
    "logits", "shares" or "sigmoid" of classes of pixels, as `workers.vision.semantic_segmentation.choose`
    takes them; empty where each picture tells. Empty for other plans.
    """
    if plan.task == "classify":
        return _scores_of_classifier(arranged, wishes)
    return _scores_of_pixels(arranged) if plan.layout == SEMANTIC else ""


def _plan_scores(arranged: Arranged, wishes: Wishes) -> OutputPlan:
    head = arranged.heads[0]
    if head.values.dtype.kind != "f":
        text = (
            "It gives the number of the best class alone. Export the scores of all classes: leave ArgMax out."
        )
        raise Refused(text, code="outputs")
    if arranged.last_operator() == "TopK":
        text = (
            f"It gives the {head.values.size} best scores alone. Export those of all classes: leave TopK out."
        )
        raise Refused(text, code="outputs")
    if head.values.size == 1:
        return _plan_number(arranged, wishes)
    if not wishes.names and is_features(head):
        text = (
            f"Its output “{show(head.name, 40)}” has {head.values.size} features, which tell no classes. "
            "Export the model with the layer that classifies; where these are classes, name them in the "
            "config.json."
        )
        raise Refused(text, code="outputs")
    return plan_outputs([(1, head.values.size)], arranged.size, wishes)


def _plan_number(arranged: Arranged, wishes: Wishes) -> OutputPlan:
    """One number tells two classes apart: it is the share of the second, or that one's logit."""
    if _ends_in(arranged, frozenset({"Softmax"})) and float(arranged.heads[0].values.ravel()[0]) == 1:
        text = "Its Softmax is over one number, so that it always gives 1: export it with a Sigmoid instead."
        raise Refused(text, code="outputs")
    if not (wishes.names or wishes.task == "classify" or _is_share(arranged)):
        text = (
            "It gives one number, and nothing says what that is. Of a classifier with two classes, name them "
            "in the config.json: {“names”: [“no”, “yes”]}. Models that measure something, such as an age, "
            "are not run."
        )
        raise Refused(text, code="outputs")
    if len(wishes.names) > 2:
        text = f"One number tells two classes apart, but {len(wishes.names)} names were given."
        raise Refused(text, code="names")
    return plan_outputs([(1, 2)], arranged.size, wishes.model_copy(update={"names": ()}))


def _scores_of_classifier(arranged: Arranged, wishes: Wishes) -> str:
    values = arranged.heads[0].values.reshape(-1)
    if values.size == 1:
        is_logit = wishes.layout in ("logits", "sigmoid") or not _is_share(arranged)
        return "sigmoid" if is_logit else "probabilities"
    if wishes.layout in ("logits", "sigmoid"):
        return wishes.layout
    # Those of quantised graphs are rounded, and do not always sum up to one.
    is_made = wishes.is_ultralytics or _ends_in(arranged, _GIVING_SHARES)
    if wishes.scores == "sigmoid" and not is_made:
        return "sigmoid"
    is_whole = values.min() >= 0 and abs(float(values.sum()) - 1) < _ROUNDED
    return "probabilities" if is_whole or is_made or _is_share(arranged) else "logits"


def _is_share(arranged: Arranged) -> bool:
    """Whether a classifier's numbers are shares by the operator that makes them, and what it was seen to."""
    return _ends_in(arranged, _GIVING_SHARES) or (_ends_in(arranged, _BOUNDING) and arranged.gives_shares)


def _ends_in(arranged: Arranged, operators: frozenset[str]) -> bool:
    return arranged.last_operator(FORMING | _PARTS) in operators


def _plan_map(arranged: Arranged, wishes: Wishes) -> tuple[OutputPlan, ...]:
    head, size = arranged.heads[0], arranged.size
    if head.shape[1] == 1:
        return _plan_plane(arranged, wishes)
    first = plan_outputs([head.shape], size, wishes)
    scale = find_scale(head.shape[2:], size)
    if first.layout == SEMANTIC and not wishes.names and scale and scale >= _COARSE:
        text = (
            f"Its output {list(head.shape)} has cells of {scale} × {scale} pixels: features, or what a "
            "detector gives before boxes are made of it. Export the whole model; where these are classes of "
            "pixels, name them in the config.json."
        )
        raise Refused(text, code="outputs")
    return tuple(list_choices([head.shape], size, wishes, first))


def _plan_plane(arranged: Arranged, wishes: Wishes) -> tuple[OutputPlan, ...]:
    """One number for each pixel: the number of its class, or how sure one class is there."""
    head, size = arranged.heads[0], arranged.size
    operator = arranged.last_operator(FORMING | _RESIZING)
    values = head.values
    is_mask = values.dtype.kind == "b" or operator in _COMPARING or is_between(values)
    # Noise may show two of many classes.
    is_named = len(wishes.names) > 2 and bool((values == np.rint(values)).all())
    has_labels = is_named or _has_labels(head, operator, is_mask=is_mask)
    if wishes.layout == LABELS or (wishes.layout != SEMANTIC and has_labels):
        return (_plan_labels(arranged, wishes),)
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
    return tuple(list_choices([head.shape], size, wishes, first))


def _has_labels(head: ProbedOutput, operator: str | None, *, is_mask: bool) -> bool:
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


def _plan_labels(arranged: Arranged, wishes: Wishes) -> OutputPlan:
    """Return how labels are read. Their classes are counted by what an ArgMax chose from, or by names."""
    count = _count_choices(arranged) or len(wishes.names)
    plan = check_plan(OutputPlan("segment", LABELS, count), wishes)
    values = arranged.heads[0].values
    highest = int(values[(values >= 0) & (values != NO_CLASS)].max(initial=0))
    refuse_many_classes(max(count, highest + 1))
    if count and highest >= count:
        text = f"It gives the class {highest}, counted from 0, but {count} names were given."
        raise Refused(text, code="names")
    return plan


def _count_choices(arranged: Arranged) -> int | None:
    """Return how many classes the ArgMax at a graph's end chooses from; None where there is none."""
    node = arranged.last_node(FORMING | _RESIZING)
    if node is None or node.op_type != "ArgMax":
        return None
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    shape = measure(arranged.graph, node.input[0], arranged.size)
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _scores_of_pixels(arranged: Arranged) -> str:
    given = arranged.heads[0].values
    operator = arranged.last_operator(FORMING | _RESIZING)
    is_one = given.shape[1] == 1
    if operator in _EACH_BY_ITSELF:
        return "shares" if is_one else "sigmoid"
    values: Floats = given.astype(np.float32)
    if not is_one and values.min() >= 0 and np.abs(values.sum(axis=1) - 1).max() < _ROUNDED:
        return "shares"
    is_share = operator in _GIVING_SHARES | _COMPARING or given.dtype.kind == "b"
    if not is_share and not arranged.gives_shares:
        return "logits"
    if not is_share and operator not in _BOUNDING:
        # By chance, or not: each picture tells.
        return "" if is_one else "logits"
    return "shares" if is_one or operator == "Softmax" else "sigmoid"
