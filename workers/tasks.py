"""What models do: the table of all tasks. A family gives each model one of them, as `task` of its facts."""

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
        title: what such a model does, to be translated.
        name: the same in a word or two, to be translated.
        noun: what a model is called in its own title, which is stored in English: "YOLO11 detector".
        finds_places: whether it tells where in an image things are.
        has_classes: whether what it finds has names of classes.
        parts: what it finds of each thing besides the box. The setting that shows it has the same name.
        usual_side: side in pixels of the images for a model that says no size of its own.
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
        "detect", gettext_noop("Detects things"), gettext_noop("Detector"), "detector", finds_places=True
    ),
    ModelTask(
        "segment",
        gettext_noop("Outlines things"),
        gettext_noop("Segmenter"),
        "segmenter",
        finds_places=True,
        parts=("masks",),
    ),
    ModelTask(
        "pose",
        gettext_noop("Finds poses"),
        gettext_noop("Poses"),
        "pose estimator",
        finds_places=True,
        parts=("keypoints",),
    ),
    ModelTask(
        "obb",
        gettext_noop("Detects things at any angle"),
        gettext_noop("Turned boxes"),
        "detector of turned boxes",
        finds_places=True,
    ),
    ModelTask(
        "classify",
        gettext_noop("Classifies pictures"),
        gettext_noop("Classifier"),
        "classifier",
        usual_side=224,
    ),
    ModelTask(
        "image",
        gettext_noop("Makes pictures"),
        gettext_noop("Generator"),
        "model that makes pictures",
        has_classes=False,
        usual_side=1024,
    ),
)
TASKS: Mapping[str, ModelTask] = {task.key: task for task in _ALL}
# Tasks of models that tell where in an image things are.
FINDERS: tuple[str, ...] = tuple(task.key for task in _ALL if task.finds_places)
# For pydantic: a text that is one of the tasks.
PATTERN = f"^({'|'.join(get_args(TaskKey))})$"
