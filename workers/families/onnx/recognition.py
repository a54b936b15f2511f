"""Recognition of the task of an ONNX graph, from its outputs for noise, its operators and its config."""

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

# Final operators that give probabilities.
_GIVING_SHARES = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
_EACH_BY_ITSELF = frozenset({"Sigmoid", "HardSigmoid"})
# Final operators that may give probabilities. Layers with weights alone do not.
_BOUNDING = frozenset({"Clip", "Div", "Exp", "Max", "Min", "Mul", "Pow", "Reciprocal", "Sub", "Where"})
# Final operators that may give any number, such as logits.
_AFFINE = frozenset({"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOST_LOGIT = 100
_COMPARING = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)
# Operators that keep probabilities and logits what they are.
_PARTS = frozenset({
    "AveragePool", "Gather", "GatherElements", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax",
    "ReduceMean", "Slice", "Split",
})  # fmt: skip
_RESIZING = frozenset({"Gather", "Resize", "Slice", "Upsample"})
# Maps with cells of this many pixels are features or raw detector maps, unless classes are named.
_COARSE = 16
# With more distinct bytes than this, an output is an image.
_MOST_LABELS_SEEN = 64
_ROUNDED = 0.01


def list_plans(arranged: Arranged, wishes: Wishes) -> tuple[OutputPlan, ...]:
    """Return the possible output plans of a graph, most likely first. Raises Refused."""
    head = arranged.heads[0]
    if head.form == "scores":
        return (_plan_scores(arranged, wishes),)
    if head.form == "map" and wishes.task != "image":
        return _plan_map(arranged, wishes)
    return tuple(choose_plans([one.values for one in arranged.heads], arranged.size, wishes))


def recognize_untold(arranged: Arranged, upload: WeightsUpload) -> OutputPlan | None:
    """Return the output plan without the task and layout of the config; None if it is not recognized."""
    said = {name: value for name, value in (upload.config or {}).items() if name not in ("task", "layout")}
    try:
        return list_plans(arranged, read_wishes(said, upload.metadata))[0]
    except Refused:
        return None


def recognize_scores(arranged: Arranged, wishes: Wishes, plan: OutputPlan) -> str:
    """Return the type of class scores of a graph.

    Classifiers: "logits", "probabilities" or "sigmoid", as in `workers.vision.classify.to_shares`.
    Segmenters: "logits", "shares" or "sigmoid", as in `workers.vision.semantic_segmentation.choose`; empty
    if it is decided for each image. Empty for other plans.
    """
    if plan.task == "classify":
        return _scores_of_classifier(arranged, wishes)
    return _scores_of_pixels(arranged) if plan.layout == SEMANTIC else ""


def _plan_scores(arranged: Arranged, wishes: Wishes) -> OutputPlan:
    head = arranged.heads[0]
    if head.values.dtype.kind != "f":
        text = "It returns only the number of the best class. Export it without ArgMax, with all scores."
        raise Refused(text, code="outputs")
    if arranged.last_operator() == "TopK":
        text = f"It returns only the {head.values.size} best scores. Export it without TopK, with all scores."
        raise Refused(text, code="outputs")
    if head.values.size == 1:
        return _plan_number(arranged, wishes)
    if not wishes.names and is_features(head):
        text = (
            f"Its output “{show(head.name, 40)}” has {head.values.size} features instead of class scores. "
            "Export the model with its classification layer. If these are classes, name them in the "
            "config.json."
        )
        raise Refused(text, code="outputs")
    return plan_outputs([(1, head.values.size)], arranged.size, wishes)


def _plan_number(arranged: Arranged, wishes: Wishes) -> OutputPlan:
    """Return the plan of a binary classifier: one number, the probability or logit of the second class."""
    if _ends_in(arranged, frozenset({"Softmax"})) and float(arranged.heads[0].values.ravel()[0]) == 1:
        text = "Its Softmax is over one number, so it always returns 1. Export it with a Sigmoid instead."
        raise Refused(text, code="outputs")
    if not (wishes.names or wishes.task == "classify" or _is_share(arranged)):
        text = (
            "It returns one number of unknown meaning. If it is a classifier with two classes, name them in "
            "the config.json: {“names”: [“no”, “yes”]}. Regression models, such as age estimators, are not "
            "supported."
        )
        raise Refused(text, code="outputs")
    if len(wishes.names) > 2:
        text = (
            f"It returns one number, for two classes, but the config.json names {len(wishes.names)} classes."
        )
        raise Refused(text, code="names")
    return plan_outputs([(1, 2)], arranged.size, wishes.model_copy(update={"names": ()}))


def _scores_of_classifier(arranged: Arranged, wishes: Wishes) -> str:
    values = arranged.heads[0].values.reshape(-1)
    if values.size == 1:
        is_logit = wishes.layout in ("logits", "sigmoid") or not _is_share(arranged)
        return "sigmoid" if is_logit else "probabilities"
    if wishes.layout in ("logits", "sigmoid"):
        return wishes.layout
    # Outputs of quantized graphs are rounded, and do not always add up to 1.
    is_made = wishes.is_ultralytics or _ends_in(arranged, _GIVING_SHARES)
    if wishes.scores == "sigmoid" and not is_made:
        return "sigmoid"
    is_whole = values.min() >= 0 and abs(float(values.sum()) - 1) < _ROUNDED
    return "probabilities" if is_whole or is_made or _is_share(arranged) else "logits"


def _is_share(arranged: Arranged) -> bool:
    """Return whether a classifier returns probabilities, by its final operator and its values."""
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
            f"Its output {list(head.shape)} has cells of {scale} × {scale} pixels: features, or raw detector "
            "output. Export the whole model. If these are pixel classes, name them in the config.json."
        )
        raise Refused(text, code="outputs")
    return tuple(list_choices([head.shape], size, wishes, first))


def _plan_plane(arranged: Arranged, wishes: Wishes) -> tuple[OutputPlan, ...]:
    """Return the plans for one number per pixel: a class number, or the score of one class."""
    head, size = arranged.heads[0], arranged.size
    operator = arranged.last_operator(FORMING | _RESIZING)
    values = head.values
    is_mask = values.dtype.kind == "b" or operator in _COMPARING or is_between(values)
    # Noise may give only two of many classes.
    is_named = len(wishes.names) > 2 and bool((values == np.rint(values)).all())
    has_labels = is_named or _has_labels(head, operator, is_mask=is_mask)
    if wishes.layout == LABELS or (wishes.layout != SEMANTIC and has_labels):
        return (_plan_labels(arranged, wishes),)
    if not is_mask and values.min() >= 0 and (operator not in _AFFINE or values.max() > _MOST_LOGIT):
        text = (
            f"It returns one number per pixel, up to {float(values.max()):.3g} for noise. This is neither a "
            "probability nor a logit. Regression models, such as depth estimators, are not supported. If it "
            "returns gray images, set “task”: “image” in the config.json. If it returns class numbers, set "
            "“layout”: “labels”."
        )
        raise Refused(text, code="outputs")
    if len(wishes.names) == 2:
        # Background and foreground: the score is that of the second class.
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
    """Return the plan for label maps. The ArgMax or the names give the number of classes."""
    count = _count_choices(arranged) or len(wishes.names)
    plan = check_plan(OutputPlan("segment", LABELS, count), wishes)
    values = arranged.heads[0].values
    highest = int(values[(values >= 0) & (values != NO_CLASS)].max(initial=0))
    refuse_many_classes(max(count, highest + 1))
    if count and highest >= count:
        text = f"It returns the class number {highest}, counted from 0, but has only {count} classes."
        raise Refused(text, code="names")
    return plan


def _count_choices(arranged: Arranged) -> int | None:
    """Return the number of classes of the final ArgMax; None if there is none."""
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
        # It may be chance, so decide for each image.
        return "" if is_one else "logits"
    return "shares" if is_one or operator == "Softmax" else "sigmoid"
