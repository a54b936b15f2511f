"""The tasks of models: detect, segment and others. Each model has one, as `task` of its facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TaskKey = Literal["detect", "segment", "pose", "obb", "classify", "image"]


def gettext_noop(text: str) -> str:
    """Return `text`. `makemessages` collects texts by the name of this function; pages translate them."""
    return text


@dataclass(frozen=True)
class ModelTask:
    """A task.

    Attributes:
        title: what such a model does. Pages translate it.
        name: a short name of such a model. Pages translate it.
        noun: how titles of models call it; these are stored in English: "YOLO11 detector".
        finds_places: whether results have locations in the image.
        has_classes: whether results have class names.
        parts: results for each detection besides its box. The parameter that draws them has the same name.
        usual_side: side of the input in pixels, for models that do not name one.
    """

    key: TaskKey
    title: str
    name: str
    noun: str
    finds_places: bool = False
    has_classes: bool = True
    parts: tuple[str, ...] = ()
    usual_side: int = 640


_ALL = (
    ModelTask(
        "detect", gettext_noop("Detects objects"), gettext_noop("Detector"), "detector", finds_places=True
    ),
    ModelTask(
        "segment",
        gettext_noop("Segments objects"),
        gettext_noop("Segmenter"),
        "segmenter",
        finds_places=True,
        parts=("masks",),
    ),
    ModelTask(
        "pose",
        gettext_noop("Estimates poses"),
        gettext_noop("Pose estimator"),
        "pose estimator",
        finds_places=True,
        parts=("keypoints",),
    ),
    ModelTask(
        "obb",
        gettext_noop("Detects oriented boxes"),
        gettext_noop("Oriented boxes"),
        "oriented box detector",
        finds_places=True,
    ),
    ModelTask(
        "classify",
        gettext_noop("Classifies images"),
        gettext_noop("Classifier"),
        "classifier",
        usual_side=224,
    ),
    ModelTask(
        "image",
        gettext_noop("Generates images"),
        gettext_noop("Generator"),
        "image generator",
        has_classes=False,
        usual_side=1024,
    ),
)
TASKS: Mapping[str, ModelTask] = {task.key: task for task in _ALL}
# Tasks that return locations.
FINDERS: tuple[str, ...] = tuple(task.key for task in _ALL if task.finds_places)
# For pydantic: a text that is one of the tasks.
PATTERN = f"^({'|'.join(get_args(TaskKey))})$"
