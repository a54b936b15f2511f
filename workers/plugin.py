"""What an operation is: its parameters, what it is handed, and what it hands back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from PIL.Image import Image

from workers.params import (
    AUTO,
    Params,
    ShowIf,
    auto_slider,
    choice,
    color,
    folder,
    folder_fields,
    slider,
    text,
    toggle,
)

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
T = TypeVar("T")
__all__ = [
    "AUTO",
    "IMAGE",
    "JSON",
    "PROCESSOR",
    "Context",
    "DeviceLost",
    "Family",
    "Kept",
    "Model",
    "Operation",
    "OperationError",
    "OutputSpec",
    "Params",
    "PictureSet",
    "PictureView",
    "ProcessCache",
    "Result",
    "ShowIf",
    "alone",
    "auto_slider",
    "choice",
    "color",
    "folder",
    "folder_fields",
    "slider",
    "text",
    "toggle",
]


class OperationError(Exception):
    """The picture or the chosen settings are at fault; the message is a sentence for the person."""

    def __init__(self, message: str, *, code: str = "operation") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class DeviceLost(Exception):
    """The GPU has failed this process: nothing runs on it any more until another process takes over."""


class PictureSet(Protocol):
    """The pictures of a folder parameter, as they were when the job or the preview was asked for.

    Attributes:
        key: str, the pictures' digests in their order; keep under it what is made of them.
    """

    @property
    def key(self) -> str: ...

    def __len__(self) -> int: ...

    def open(self, index: int, /) -> bytes:
        """Return the file at this index, as it was uploaded: the caller decodes it. Raises OSError."""


class ProcessCache(Protocol):
    """Keeps costly things between pictures, in this process. `workers.cache.Cache` is the one that runs."""

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        """Return the value of `key`, or make and keep it. `weigh` returns its size in bytes."""

    def weigh(self, key: Hashable, size: int) -> None:
        """Record that the value of `key` holds `size` bytes by now."""


class Model(Protocol):
    """Converted weights, as the family that runs them sees them.

    Attributes:
        key: str, the SHA-256 of its `model.json`, 64 hexadecimal digits.
        facts: the content of its `model.json`, which the family's `convert` wrote: task, classes, input
            size and so on (`workers.bundle.ModelFacts`).
    """

    @property
    def key(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def read(self, name: str, /) -> bytes:
        """Return one of its files: "model.onnx" or "weights.safetensors". Raises OSError."""


# What networks run on where nothing else is said: a processor, by ONNX Runtime.
PROCESSOR = "cpu"


def _go_on() -> None: ...


def alone() -> int:
    return 1


@dataclass(frozen=True)
class Context:
    """What an operation is given besides the picture and its parameters.

    The worker's task makes it: `processing.execution.work` for jobs, `processing.previews.work` for previews,
    `workers.trials.entry_point` for trials. The engine completes it for each step.

    Attributes:
        scale: float, side of the given picture divided by the original's. 1.0 in jobs; at most 1.0 in
            previews. Multiply parameters in pixels by it. Set by the engine, and by `Result.scale` of an
            earlier step.
        full: (width, height) of the original in pixels, upright. Set by the engine in previews. None in jobs,
            where the picture is the original, and after a step that changes the picture's size.
        is_preview: bool, whether a person waits for the result: slow parts may then run on less. Set by the
            engine.
        device: str, where networks run: "cpu" (ONNX Runtime), or by torch "cuda", "cuda:1", …, "torch-cpu".
            Set by the task of a job, from the queue that its worker serves; "cpu" everywhere else.
        pictures: `PictureSet` by the name of the folder parameter. Only parameters with a chosen folder are
            in it. Set by the task, under `step.parameter` (`workers.recipe.name_steps`); the engine shows
            each step its own, without the step's name.
        models: `Model` by digest, all models of the recipe. Set by the task. Families read `model` instead.
        model: `Model` that this step runs. Set by the engine. None where the step is an app.
        memo: `ProcessCache` behind `keep` and `weigh`. Set by the engine, to one for the whole process.
            None only outside the engine: then nothing is kept.
        checkpoint: called without arguments between slow parts; raises where the run has to end. Set by
            the job's thread pool on a GPU worker. Elsewhere it does nothing, as a signal ends the run.
        together: returns how many threads run an image now, at least 1. Set by the job's thread pool on
            a GPU worker, where batches are filled from all threads. Elsewhere it returns 1.
        network_seconds: float, seconds of processor time that one call of a network may take. Set by the
            task, from the speed measured when the weights were converted.
        is_shut_in: bool, whether this process is a sandbox process already. Set by the trial alone. A network
            gets a process of its own where it is false.
    """

    scale: float = 1.0
    full: tuple[int, int] | None = None
    is_preview: bool = False
    device: str = PROCESSOR
    pictures: Mapping[str, PictureSet] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    model: Model | None = None
    memo: ProcessCache | None = None
    checkpoint: Callable[[], None] = _go_on
    together: Callable[[], int] = alone
    network_seconds: float = 45.0
    is_shut_in: bool = False

    def keep(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        """Return what was made under `key` before, or make it now. `weigh` gives its size in bytes.

        Keys of what is made of a model are `(kind, model key)`, so a worker can list its loaded models.
        """
        return make() if self.memo is None else self.memo.get(key, make, weigh)

    def weigh(self, key: Hashable, size: int) -> None:
        """Tell that what is kept under `key`, if it still is, holds so many bytes by now."""
        if self.memo is not None:
            self.memo.weigh(key, size)


class PictureView(Protocol):
    """A picture as operations see it: upright, sRGB, 8 bits, decoded only as far as asked.

    The images are shared between callers: never change one in place.

    Attributes:
        width: int, pixels, upright. Of the reduced picture in previews.
        height: int, pixels, upright.
        format: str, Pillow's name of the uploaded file's format, as "JPEG". None where it has none.
    """

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> str | None: ...

    def rgb(self, *, flat: bool = True) -> Image:
        """Full size, mode RGB. Transparency is laid on white, or dropped where `flat` is false."""

    def gray(self, *, flat: bool = True) -> Image:
        """Full size, mode L: Rec. 601 luma, for JPEG straight from the decoder."""

    def alpha(self) -> Image | None:
        """Full size, mode L; None where every pixel is opaque."""

    def reduced(self, width: int, height: int) -> Image:
        """Mode RGB, reduced by a whole factor but never below `width` x `height`."""

    def reduced_by(self, factor: int) -> Image:
        """Mode RGB, reduced by the largest whole factor at hand that is at most `factor`.

        1, 2, 4 and 8 always are: a pixel of the view is then the mean of that many squared.
        """

    def reduced_gray(self, width: int, height: int) -> Image:
        """Like `reduced`, mode L."""


@dataclass(frozen=True)
class OutputSpec:
    """One thing an operation delivers.

    Attributes:
        label: str, its key in the API and in names of files; unique within an operation.
        kind: "image", "text" or "data" (JSON).
        title: str, what pages call it.
    """

    label: str
    kind: Literal["image", "text", "data"]
    title: str


IMAGE = OutputSpec("image", "image", "Picture")


@dataclass(frozen=True)
class Result:
    """What one run made.

    Attributes:
        image: the new picture, of mode 1, L, LA, P, RGB or RGBA. None where the operation makes none.
        format: str, a hint: "PNG" where hard edges must stay. None for the input's own format.
        texts: str by the label of an output of kind "text".
        data: JSON of the output of kind "data". None where there is none.
        scale: float, side of `image` divided by its side at full size, where the size of `image` does not
            follow the picture's (1.0 where it is always of full size). None where it follows it:
            `Context.scale` stays. Later steps go by it.
    """

    image: Image | None = None
    format: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    data: JSON = None
    scale: float | None = None


# What of a picture its result still has: "picture", itself, as none is made of it; "places", what it shows is
# where it was, in proportion to the sides; "nothing" that could be told.
Kept: TypeAlias = Literal["picture", "places", "nothing"]

_ParamsType: TypeAlias = type[Params]
P = TypeVar("P", bound=Params)


class Operation(ABC, Generic[P]):
    """An image function: one subclass, in one file of `workers/operations`, named as its key.

    Attributes:
        key: str, its name in recipes and addresses, never changed.
        title: str, its name on pages.
        summary: str, one sentence for its card.
        description: str, Markdown for its page.
        tier: "basic" or "advanced", the badge of its card. Basic apps are listed first.
        queue: "cpu", or "gpu" where torch can run its networks.
        version: int, from 1. Raise it when the same parameters start to give other pixels: kept results are
            keyed by it.
        outputs: what it delivers, in the order of pages; one image by default.
        Params: the class of its parameters, a subclass of `workers.plugin.Params`.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    description: ClassVar[str]
    tier: ClassVar[Literal["basic", "advanced"]] = "basic"
    queue: ClassVar[Literal["cpu", "gpu"]] = "cpu"
    version: ClassVar[int] = 1
    outputs: ClassVar[tuple[OutputSpec, ...]] = (IMAGE,)
    Params: ClassVar[_ParamsType]

    @abstractmethod
    def run(self, picture: PictureView, params: P, context: Context) -> Result:
        """Make the result. Raises OperationError where the picture or the settings are at fault."""

    def keeps(self, params: P, facts: Mapping[str, Any]) -> Kept:
        """Say what of a picture the result has, so that what is found in one may be drawn over the other.

        Args:
            facts: of the model; none for an app.
        """
        return "nothing"

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON schema of the settings."""
        return cls.Params.model_json_schema()

    @classmethod
    def folders(cls) -> tuple[str, ...]:
        """Names of the settings that choose a folder."""
        return folder_fields(cls.Params)


class Family(Operation[P]):
    """An architecture that runs somebody's weights: one subclass, in `family.py` of a folder of families.

    It converts uploads in a process that can do nothing else: see `workers.sandbox`.
    One with `queue = "gpu"` has networks that torch can run: its jobs go to a GPU where there is one.
    """

    tier = "advanced"

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the settings that mean something to a model of these facts: here, all."""
        return tuple(self.Params.model_fields)

    def choices_for(self, facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """Return the choices that mean something to such a model, of settings where some do not."""
        return {}

    @abstractmethod
    def recognise(self, upload: Any) -> str | None:
        """Say what these weights are to this family ("YOLO11 detector"), or None where they are not its own.

        Args:
            upload: a `workers.checkpoints.upload.WeightsUpload`.
        """

    @abstractmethod
    def convert(self, upload: Any) -> Any:
        """Rebuild the model by trusted code; return a `workers.bundle.Bundle`.

        Runs only in the process of `workers.sandbox.run`. Raises `workers.checkpoints.upload.Refused`.
        """

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        """Return a converted model as a torch module on the CPU, whose outputs are those of its ONNX form.

        Only for families with `queue = "gpu"`. Nothing of the facts is believed: they come from the process
        that read the upload.

        Args:
            facts: of its model.json.
            tensors: of its weights.safetensors, on the CPU.

        Raises:
            workers.checkpoints.upload.Refused: what the facts say cannot be built, or not of these tensors.
        """
        raise NotImplementedError(f"{self.key} has no network that torch can run.")
