"""Object detection on an image: parameters, inference, and annotated, blurred or cropped results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from workers.inference.errors import UNEXPECTED_OUTPUT, ModelFault
from workers.inference.sessions import Session, get_session, model_of
from workers.plugin import (
    AUTO,
    Context,
    Kept,
    OperationError,
    Params,
    PictureView,
    Result,
    ShowIf,
    auto_slider,
    choice,
    slider,
    text,
    toggle,
)
from workers.tasks import TASKS
from workers.vision import blur_and_crop, draw, yolox
from workers.vision.class_names import choose_classes, name_of, read_class_list
from workers.vision.classify import classify
from workers.vision.detection_outputs import (
    LAYOUTS,
    Detections,
    DetectorOutputSpec,
    Layout,
    find_layout,
    read,
)
from workers.vision.instances import Instance, Turn, describe
from workers.vision.letterbox import Letterbox, round_up
from workers.vision.masks import Mask, assemble

Floats = NDArray[np.float32]

_DRAWN: ShowIf = {"result": ["draw"]}
# Parameters of every model that returns boxes.
_CHOOSING = ("result", "confidence", "iou", "classes", "max_detections")
_DRAWING = ("boxes", "labels", "line_width", "image_size")
# Layouts without NMS: one row for each object, or one class for each pixel.
_WITHOUT_NMS = ("end-to-end", "semantic", "labels")


class FindingParams(Params):
    result: Literal["draw", "blur", "crop", "data"] = choice(
        "draw",
        labels={
            "draw": "Annotated image",
            "blur": "Blur detections",
            "crop": "Crop the best match",
            "data": "Data only",
        },
        title="Result",
        help="The image to return. Detections are always returned as data too.",
    )
    confidence: float = slider(
        0.25,
        ge=0.01,
        le=0.99,
        step=0.01,
        title="Confidence",
        help="Detections below this confidence are hidden.",
        display="at_least_percent",
    )
    iou: float = slider(
        0.7,
        ge=0.05,
        le=0.95,
        step=0.05,
        title="IoU threshold",
        help="NMS: of two boxes of a class with a higher IoU, only the more confident one is kept.",
        advanced=True,
    )
    classes: str = text(
        "",
        max_length=1000,
        title="Classes",
        help="Classes to detect, separated by commas. Put names with commas in quotes. Empty: all classes.",
    )
    max_detections: int = slider(
        300,
        ge=1,
        le=1000,
        title="Max detections",
        help="Maximum number of detections, most confident first.",
        advanced=True,
    )
    boxes: bool = toggle(True, title="Boxes", help="Draw bounding boxes.", show_if=_DRAWN, advanced=True)
    masks: bool = toggle(
        True,
        title="Masks",
        help="Draw segmentation masks.",
        show_if=_DRAWN,
        advanced=True,
    )
    keypoints: bool = toggle(
        True,
        title="Keypoints",
        help="Draw pose keypoints and limbs.",
        show_if=_DRAWN,
        advanced=True,
    )
    labels: bool = toggle(
        True,
        title="Labels",
        help="Draw class names and confidences.",
        show_if=_DRAWN,
        advanced=True,
    )
    line_width: Annotated[int, Field(ge=1, le=40)] | Literal["auto"] = auto_slider(
        start=3,
        title="Line width",
        help="Line width of boxes and limbs. Auto: depends on the image size.",
        unit="px",
        show_if=_DRAWN,
        advanced=True,
    )
    image_size: Annotated[int, Field(ge=32, le=2048)] | Literal["auto"] = auto_slider(
        start=640,
        step=32,
        auto_label="model default",
        title="Image size",
        help="Longer side of the model input. Some models only support their default.",
        unit="px",
        advanced=True,
    )
    top_k: int = slider(
        5,
        ge=1,
        le=100,
        title="Top classes",
        help="Number of classes to return, most confident first.",
    )

    @property
    def input_side(self) -> int:
        """Longer side of the model input in pixels; 0: the model's default."""
        return 0 if self.image_size == AUTO else self.image_size

    @property
    def line_pixels(self) -> int:
        """Line width in pixels of the full-size image; 0: depends on its size."""
        return 0 if self.line_width == AUTO else self.line_width

    @field_validator("classes", mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        """Accept a JSON list, as programs may send."""
        return read_class_list(value) if isinstance(value, list) else value


def settings_for(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the parameters that apply to a model."""
    if facts["task"] == "classify":
        return ("result", "classes", "labels", "image_size", "top_k")
    names = _CHOOSING + _DRAWING + (TASKS[facts["task"]].parts if facts["task"] in TASKS else ())
    return tuple(name for name in names if name != "iou" or facts.get("layout") not in _WITHOUT_NMS)


def choices_for(facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    """Return the choices that apply to a model, of parameters where not all do."""
    # Classification has no boxes to blur or crop.
    return {"result": ("draw", "data")} if facts["task"] == "classify" else {}


@dataclass(frozen=True)
class Detector:
    """The facts of a model that prepare its input and decode its output."""

    task: str
    classes: tuple[str, ...]
    input: tuple[int, int]
    channels: int
    keypoints: tuple[int, int] | None
    layout: Layout | None
    stride: int
    takes_rectangles: bool

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Detector:
        points, layout = facts.get("keypoints"), facts.get("layout")
        return cls(
            task=facts["task"],
            classes=tuple(facts.get("classes") or ()),
            input=(facts["input"]["width"], facts["input"]["height"]),
            channels=facts["input"]["channels"],
            keypoints=(points[0], points[1]) if points else None,
            layout=layout if layout in LAYOUTS else None,
            stride=facts.get("stride", 1),
            takes_rectangles=facts.get("rectangles", False),
        )


def keeps(params: FindingParams) -> Kept:
    """Return what the result keeps of the input image: see `workers.plugin.Operation.keeps`."""
    if params.result == "data":
        return "picture"
    return "nothing" if params.result == "crop" else "places"


def run(picture: PictureView, params: FindingParams, context: Context) -> Result:
    """Detect or classify, and return the result that the parameters ask for. Raises OperationError."""
    model = model_of(context)
    detector = Detector.of(model.facts)
    wanted = choose_classes(params.classes, detector.classes)
    if params.result != "data":
        # The full image is needed anyway. Decode it once; the model input is then made from it.
        picture.rgb(flat=picture.alpha() is None)
    if detector.task == "classify":
        return _run_classifier(picture, params, context, wanted)
    return make_result(picture, params, context, find(picture, params, context, wanted))


def find(
    picture: PictureView, params: FindingParams, context: Context, wanted: frozenset[int] | None
) -> list[Instance]:
    """Return the detections in an image, most confident first, in pixels of the image."""
    session = get_session(context)
    detector = Detector.of(model_of(context).facts)
    place = choose_place(picture, session, detector, params.input_side)
    outputs = session.run(place.plan(picture, detector.channels))
    found = read(
        outputs[0],
        _reading_of(detector, outputs, place.input),
        confidence=params.confidence,
        iou=params.iou,
        most=params.max_detections,
        wanted=wanted,
    )
    return list(_place(found, outputs, detector, place))


def choose_place(picture: PictureView, session: Session, detector: Detector, wanted: int) -> Letterbox:
    """Return the letterbox for an image: a rectangle if the model supports it, else a square.

    `wanted`: longer side of the input, 0 for the model's default. Raises OperationError.
    """
    is_free = session.shape[2:] == (None, None)
    size = choose_input(session, detector.input, round_up(wanted, detector.stride) if is_free else wanted)
    # Models that were only verified on squares get squares, in every session.
    stride = detector.stride if is_free and detector.takes_rectangles else None
    place = Letterbox.fit((picture.width, picture.height), size, stride)
    # YOLOX is trained with the image in the corner, not in the center.
    return replace(place, left=0, top=0) if yolox.is_yolox(detector.layout) else place


def choose_input(session: Session, own: tuple[int, int], wanted: int) -> tuple[int, int]:
    """Return the width and height of the model input. Raises OperationError if the model has a fixed size."""
    fixed = session.shape[3], session.shape[2]
    size = (wanted, wanted) if wanted else own
    if any(has is not None and has != asked for has, asked in zip(fixed, size, strict=True)):
        if wanted:
            text = f"This model only supports {own[0]} × {own[1]} pixels. Set the image size to “auto”."
            raise OperationError(text, code="input_size")
        raise ValueError(f"The model’s facts say {own}, its graph {fixed}.")
    return size


def make_result(
    picture: PictureView, params: FindingParams, context: Context, instances: Sequence[Instance]
) -> Result:
    """Return the annotated, blurred or cropped image, and the detections as data. Raises OperationError."""
    data = describe(instances, picture, context)
    return Result(image=_make_image(picture, params, context, instances), data=data)


def _reading_of(detector: Detector, outputs: Sequence[Floats], size: tuple[int, int]) -> DetectorOutputSpec:
    more = 0
    if detector.task == "segment":
        more = _count_prototypes(outputs)
    elif detector.task == "pose" and detector.keypoints is not None:
        more = detector.keypoints[0] * detector.keypoints[1]
    elif detector.task == "obb":
        more = 1
    count = len(detector.classes)
    layout = detector.layout or find_layout(outputs[0].shape, count, more)
    if layout is None:
        raise ModelFault(UNEXPECTED_OUTPUT)
    return DetectorOutputSpec(count, more, layout, rotated=detector.task == "obb", size=size)


def _count_prototypes(outputs: Sequence[Floats]) -> int:
    """Return the number of mask prototypes, from an output of shape (1, count, rows, columns)."""
    shape = outputs[1].shape if len(outputs) > 1 else ()
    if len(shape) != 4 or shape[0] != 1 or 0 in shape:
        raise ModelFault(UNEXPECTED_OUTPUT)
    return int(shape[1])


def _place(
    found: Detections, outputs: Sequence[Floats], detector: Detector, place: Letterbox
) -> Iterator[Instance]:
    if detector.task == "obb":
        yield from _place_turned(found, detector, place)
        return
    boxes = place.boxes_to_picture(found.boxes)
    masks: Iterator[Mask | None] = iter([None] * len(found))
    if detector.task == "segment":
        masks = assemble(found.more, outputs[1][0], boxes, place)
    points: Sequence[Floats | None] = [None] * len(found)
    if detector.task == "pose" and detector.keypoints is not None:
        points = list(_place_points(found.more.reshape(-1, *detector.keypoints), place))
    named = _name(found, detector)
    for box, label, mask, keypoints in zip(boxes.tolist(), named, masks, points, strict=True):
        # Skip detections with an empty mask.
        if mask is None or mask.area:
            yield Instance(tuple(box), *label, mask, keypoints)


def _place_points(points: Floats, place: Letterbox) -> Floats:
    return np.concatenate([place.to_picture(points[..., :2]), points[..., 2:]], axis=-1)


def _place_turned(found: Detections, detector: Detector, place: Letterbox) -> Iterator[Instance]:
    centers = place.to_picture(found.boxes[:, :2], clip=False)
    sides = found.boxes[:, 2:] / np.asarray(place.gains, np.float32)
    # A network may return any number. Clip boxes far outside the image, because drawing them is slow.
    far = 2 * sum(place.picture)
    bounded = np.clip(np.hstack([centers, sides]), (-far, -far, 0, 0), far)
    boxes = np.hstack([bounded, found.more[:, -1:]]).tolist()
    for (x, y, width, height, angle), label in zip(boxes, _name(found, detector), strict=True):
        turn = Turn.of(x, y, width, height, angle)
        xs, ys = zip(*turn.corners(), strict=True)
        hull = _clip((min(xs), min(ys), max(xs), max(ys)), place.picture)
        yield Instance(hull, *label, turn=turn)


def _clip(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, right = (min(max(0.0, edge), size[0]) for edge in box[::2])
    top, bottom = (min(max(0.0, edge), size[1]) for edge in box[1::2])
    return left, top, right, bottom


def _name(found: Detections, detector: Detector) -> list[tuple[float, int, str]]:
    """Return the confidence, class id and class name of each detection."""
    pairs = zip(found.scores.tolist(), found.classes.tolist(), strict=True)
    return [(score, class_id, name_of(detector.classes, class_id)) for score, class_id in pairs]


def _make_image(
    picture: PictureView, params: FindingParams, context: Context, instances: Sequence[Instance]
) -> Any:
    if params.result == "data":
        return None
    if params.result == "blur":
        return blur_and_crop.blur(picture, instances)
    if params.result == "crop":
        if not instances:
            raise OperationError(
                "No detections to crop. Lower the confidence, or choose another result.", code="nothing_found"
            )
        return blur_and_crop.crop(picture, instances[0])
    image = picture.rgb()
    style = draw.Style(
        boxes=params.boxes,
        masks=params.masks,
        keypoints=params.keypoints,
        labels=params.labels,
        line=draw.choose_line(image.size, params.line_pixels * context.scale),
    )
    return draw.draw(image, instances, style)


def _run_classifier(
    picture: PictureView, params: FindingParams, context: Context, wanted: frozenset[int] | None
) -> Result:
    if params.result in ("blur", "crop"):
        text = (
            "This model classifies whole images. There are no boxes to blur or crop: choose another result."
        )
        raise OperationError(text, code="no_places")
    best, data = classify(picture, context, params.top_k, wanted, size=params.input_side)
    if params.result == "data" or not best:
        return Result(image=None if params.result == "data" else picture.rgb(), data=data)
    image = picture.rgb()
    if params.labels:
        title = draw.label(best[0].name, best[0].confidence)
        image = draw.draw_title(image, title, best[0].class_id)
    return Result(image=image, data=data)
