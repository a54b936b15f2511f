"""Plug-in interface of apps and model families: `Operation`, `Family`, `Context` and `Result`."""

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
    """The image or the parameters cannot be processed. Users see the message."""

    def __init__(self, message: str, *, code: str = "operation") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class DeviceLost(Exception):
    """The GPU context of this process is broken. Only a new process can use the GPU again."""


class PictureSet(Protocol):
    """The images of a folder parameter, as they were when the job or preview was submitted.

    Attributes:
        key: str, made of the digests of the images, in order. Use it in cache keys.
    """

    @property
    def key(self) -> str: ...

    def __len__(self) -> int: ...

    def open(self, index: int, /) -> bytes:
        """Return the uploaded bytes of the file at this index, not decoded. Raises OSError."""


class ProcessCache(Protocol):
    """Cache of expensive objects for one process. The implementation is `workers.cache.Cache`."""

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        """Return the cached value of `key`, or make and cache it. `weigh` returns its size in bytes."""

    def weigh(self, key: Hashable, size: int) -> None:
        """Update the size of the value of `key`, in bytes."""


class Model(Protocol):
    """Converted weights, for the family that runs them.

    Attributes:
        key: str, the SHA-256 of its `model.json`, 64 hexadecimal digits.
        facts: content of `model.json`, written by the family's `convert`: task, classes, input size and so
            on (`workers.bundle.ModelFacts`).
    """

    @property
    def key(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def read(self, name: str, /) -> bytes:
        """Return the bytes of "model.onnx" or "weights.safetensors". Raises OSError."""


# Default device of networks: the CPU, with ONNX Runtime.
PROCESSOR = "cpu"


def _do_nothing() -> None: ...


def alone() -> int:
    return 1


@dataclass(frozen=True)
class Context:
    """Input of an operation, besides the image and its parameters.

    The worker's task creates it: `processing.execution.work` for jobs, `processing.previews.work` for
    previews, `workers.trials.entry_point` for trials. The engine completes it for each step.

    Attributes:
        scale: float, side of the image divided by the side of the original. 1.0 in jobs; at most 1.0 in
            previews. Multiply parameters in pixels by it. Set by the engine, and by `Result.scale` of an
            earlier step.
        full: (width, height) of the original in pixels, upright. Set by the engine in previews. None in jobs,
            where the image is the original, and after a step that changes the image size.
        is_preview: bool, whether a user waits for the result. Slow operations may then reduce the image.
            Set by the engine.
        device: str, where networks run: "cpu" (ONNX Runtime), or with torch "cuda", "cuda:1", …, "torch-cpu".
            Set by the task of a job, from the queue that its worker serves; "cpu" everywhere else.
        pictures: `PictureSet` by the name of the folder parameter. Has only parameters with a chosen
            folder. Set by the task, under `step.parameter` (`workers.recipe.name_steps`); the engine gives
            each step its own, without the step name.
        models: `Model` by digest, all models of the recipe. Set by the task. Families read `model` instead.
        model: `Model` that this step runs. Set by the engine. None where the step is an app.
        memo: `ProcessCache` behind `keep` and `weigh`. Set by the engine, to one for the whole process.
            None only outside the engine: then nothing is cached.
        checkpoint: call it without arguments between slow parts. It raises if the run must stop. Set by the
            job's thread pool on a GPU worker. Elsewhere it does nothing, because a signal stops the run.
        together: returns the number of threads that run an image now, at least 1. Set by the job's thread
            pool on a GPU worker, where batches are filled from all threads. Elsewhere it returns 1.
        network_seconds: float, limit of one network call in seconds of CPU time. Set by the task, from the
            speed measured at conversion.
        is_shut_in: bool, whether this process is already a sandbox. Set only by trials. If false, a network
            gets a process of its own.
    """

    scale: float = 1.0
    full: tuple[int, int] | None = None
    is_preview: bool = False
    device: str = PROCESSOR
    pictures: Mapping[str, PictureSet] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    model: Model | None = None
    memo: ProcessCache | None = None
    checkpoint: Callable[[], None] = _do_nothing
    together: Callable[[], int] = alone
    network_seconds: float = 45.0
    is_shut_in: bool = False

    def keep(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        """Return the cached value of `key`, or make it. `weigh` returns its size in bytes.

        Cache keys of model artefacts are `(kind, model key)`, so a worker can list its loaded models.
        """
        return make() if self.memo is None else self.memo.get(key, make, weigh)

    def weigh(self, key: Hashable, size: int) -> None:
        """Update the size of the cached value of `key`, in bytes. Does nothing if it is not cached."""
        if self.memo is not None:
            self.memo.weigh(key, size)


class PictureView(Protocol):
    """The input image of an operation: upright, sRGB, 8 bits, decoded on demand.

    Returned images are shared between callers: never change them in place.

    Attributes:
        width: int, pixels, upright. In previews, of the reduced image.
        height: int, pixels, upright.
        format: str, Pillow's name of the format of the upload, for example "JPEG". None if unknown.
    """

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> str | None: ...

    def rgb(self, *, flat: bool = True) -> Image:
        """Return the image at full size, mode RGB. Flatten it on white, or drop alpha if `flat` is false."""

    def gray(self, *, flat: bool = True) -> Image:
        """Return Rec. 601 luma at full size, mode L. For JPEG it comes directly from the decoder."""

    def alpha(self) -> Image | None:
        """Return alpha at full size, mode L; None if every pixel is opaque."""

    def reduced(self, width: int, height: int) -> Image:
        """Return mode RGB, reduced by an integer factor, but not below `width` x `height`."""

    def reduced_by(self, factor: int) -> Image:
        """Return mode RGB, reduced by the largest available integer factor of at most `factor`.

        1, 2, 4 and 8 are always available: each pixel is then the mean of factor x factor pixels.
        """

    def reduced_gray(self, width: int, height: int) -> Image:
        """Return mode L, reduced like `reduced`."""


@dataclass(frozen=True)
class OutputSpec:
    """One output of an operation.

    Attributes:
        label: str, key in the API and in file names; unique within an operation.
        kind: "image", "text" or "data" (JSON).
        title: str, name on pages.
    """

    label: str
    kind: Literal["image", "text", "data"]
    title: str


IMAGE = OutputSpec("image", "image", "Image")


@dataclass(frozen=True)
class Result:
    """Output of one run of an operation.

    Attributes:
        image: mode 1, L, LA, P, RGB or RGBA. None if the operation returns no image.
        format: str, format hint: "PNG" to keep hard edges. None for the format of the input.
        texts: str by the label of an output of kind "text".
        data: JSON of the output of kind "data". None if there is none.
        scale: float, side of `image` divided by its side at full size. Set it if the size of `image` does
            not depend on the input size (1.0: always full size). None: `Context.scale` stays the same.
            Later steps use it.
    """

    image: Image | None = None
    format: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    data: JSON = None
    scale: float | None = None


# What a result keeps of the input image: "picture": there is no new image; "places": content stays at its
# relative position; "nothing": unknown.
Kept: TypeAlias = Literal["picture", "places", "nothing"]

_ParamsType: TypeAlias = type[Params]
P = TypeVar("P", bound=Params)


class Operation(ABC, Generic[P]):
    """An image function: one subclass in one file of `workers/operations`. The file name is the key.

    Attributes:
        key: str, name in recipes and URLs. Never change it.
        title: str, name on pages.
        summary: str, one sentence for the card.
        description: str, Markdown for the page.
        tier: "basic" or "advanced", the badge of the card. Basic apps are listed first.
        queue: "cpu", or "gpu" if torch can run its networks.
        version: int, from 1. Increase it when the same parameters give different pixels: it is part of the
            key of reused results.
        outputs: outputs in the order of pages; one image by default.
        Params: class of the parameters, a subclass of `workers.plugin.Params`.
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
        """Return the result. Raises OperationError if the image or the parameters cannot be processed."""

    def keeps(self, params: P, facts: Mapping[str, Any]) -> Kept:
        """Return what the result keeps of the input image. Pages use it to draw detections over the result.

        Args:
            facts: facts of the model; empty for an app.
        """
        return "nothing"

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the parameters."""
        return cls.Params.model_json_schema()

    @classmethod
    def folders(cls) -> tuple[str, ...]:
        """Return the names of the parameters that choose a folder."""
        return folder_fields(cls.Params)


class Family(Operation[P]):
    """Code for one kind of uploaded weights: one subclass in `family.py` of a folder in `workers/families`.

    It converts uploads in a sandbox: see `workers.sandbox`.
    With `queue = "gpu"`, torch can run its networks, and jobs use a GPU if the site has one.
    """

    tier = "advanced"

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the parameters that apply to a model. Default: all."""
        return tuple(self.Params.model_fields)

    def choices_for(self, facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """Return the choices that apply to a model, for parameters where not all do."""
        return {}

    @abstractmethod
    def recognize(self, upload: Any) -> str | None:
        """Return a title of the weights ("YOLO11 detector"), or None if they are not of this family.

        Args:
            upload: a `workers.checkpoints.upload.WeightsUpload`.
        """

    @abstractmethod
    def convert(self, upload: Any) -> Any:
        """Rebuild the model with trusted code; return a `workers.bundle.Bundle`.

        Runs only in the process of `workers.sandbox.run`. Raises `workers.checkpoints.upload.Refused`.
        """

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        """Return a converted model as a torch module on the CPU, with the same outputs as its ONNX model.

        Only for families with `queue = "gpu"`. Validate the facts: they come from the process that read the
        upload.

        Args:
            facts: content of model.json.
            tensors: content of weights.safetensors, on the CPU.

        Raises:
            workers.checkpoints.upload.Refused: the facts are invalid, or the tensors do not fit them.
        """
        raise NotImplementedError(f"{self.key} has no network that torch can run.")
