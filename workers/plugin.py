"""What an operation is: its parameters, what it is handed, and what it hands back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
ShowIf: TypeAlias = Mapping[str, list[str | bool]]
# The value of a numeric setting that the operation chooses by itself.
AUTO: Final = "auto"
T = TypeVar("T")


class OperationError(Exception):
    """The picture or the chosen settings are at fault; the message is a sentence for the person."""

    def __init__(self, message: str, *, code: str = "operation") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class DeviceLost(Exception):
    """The GPU has failed this process: nothing runs on it any more until another process takes over."""


class Params(BaseModel):
    """Settings of one operation. Frozen; unknown names are refused; form strings are parsed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _read_empty_folders(cls, raw: Any) -> Any:
        """A form sends "" for «no folder chosen»."""
        if not isinstance(raw, Mapping):
            return raw
        empty = {name for name in folder_fields(cls) if raw.get(name) == ""}
        return {name: None if name in empty else value for name, value in raw.items()}


def folder_fields(params: type[Params]) -> tuple[str, ...]:
    """The names of the settings that hold a folder of the user's drive."""
    return tuple(name for name, info in params.model_fields.items() if _extra(info).get("format") == "folder")


def _extra(info: Any) -> dict[str, Any]:
    extra = info.json_schema_extra
    return extra if isinstance(extra, dict) else {}


# --- Declaring settings. Each helper returns a pydantic field whose JSON schema tells pages and API
# --- everything: widget, title, description, bounds, unit, labels and when to show it. What few people change
# --- is `advanced`: pages fold it away below the others.


def _declare(
    default: Any,
    widget: str,
    title: str,
    help: str,
    show_if: ShowIf | None,
    advanced: bool,
    extra: Any,
    **kw: Any,
) -> Any:
    meta: dict[str, Any] = {"widget": widget, **{k: v for k, v in extra.items() if v is not None}}
    if show_if:
        meta["show_if"] = {name: list(values) for name, values in show_if.items()}
    if advanced:
        meta["advanced"] = True
    return Field(default=default, title=title, description=help, json_schema_extra=meta, **kw)


def slider(
    default: float,
    *,
    ge: float,
    le: float,
    step: float = 1,
    title: str,
    help: str,
    unit: str | None = None,
    display: Literal["at_least_percent"] | None = None,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """A number between `ge` and `le`. `unit` is for reading: "px", "%", …

    With `display="at_least_percent"`, pages that list used settings write 0.25 as «≥ 25 %».
    """
    extra = {"step": step, "unit": unit, "display": display}
    return _declare(default, "slider", title, help, show_if, advanced, extra, ge=ge, le=le)


def auto_slider(
    *,
    start: float,
    step: float = 1,
    auto_label: str = "auto",
    title: str,
    help: str,
    unit: str | None = None,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """A number, or "auto", the default. Annotate as `Annotated[int, Field(ge=…, le=…)] | Literal["auto"]`.

    `start` is the number that a page offers to people who turn "auto" off; `auto_label` names "auto".
    """
    extra = {"step": step, "unit": unit, "enum_labels": {AUTO: auto_label}}
    return _declare(AUTO, "slider", title, help, show_if, advanced, extra, examples=[start])


def choice(
    default: str,
    *,
    labels: Mapping[str, str],
    title: str,
    help: str,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """One of the annotated Literal's values; `labels` says what each is called."""
    return _declare(default, "choice", title, help, show_if, advanced, {"enum_labels": dict(labels)})


def toggle(
    default: bool, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """Yes or no."""
    return _declare(default, "toggle", title, help, show_if, advanced, {})


def text(
    default: str,
    *,
    min_length: int = 0,
    max_length: int,
    title: str,
    help: str,
    show_if: ShowIf | None = None,
    advanced: bool = False,
) -> Any:
    """One line of text, its length in characters."""
    bounds = {"min_length": min_length, "max_length": max_length}
    return _declare(default, "text", title, help, show_if, advanced, {}, **bounds)


def color(
    default: str, *, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False
) -> Any:
    """A color written "#rrggbb"."""
    extra, pattern = {"format": "color"}, r"^#[0-9a-fA-F]{6}$"
    return _declare(default, "color", title, help, show_if, advanced, extra, pattern=pattern)


def folder(*, title: str, help: str, show_if: ShowIf | None = None, advanced: bool = False) -> Any:
    """The id of a folder of the user's drive, or None. Annotate as `str | None`.

    Its pictures arrive in `Context.pictures` under the setting's own name.
    """
    extra = {"format": "folder"}
    return _declare(None, "folder", title, help, show_if, advanced, extra, max_length=64)


# --- What an operation is handed.


class PictureSet(Protocol):
    """A folder's pictures. `key` digests their content, so what is made from them can be kept."""

    @property
    def key(self) -> str: ...

    def __len__(self) -> int: ...

    def open(self, index: int, /) -> bytes: ...


class Memo(Protocol):
    """Keeps costly things between pictures, in this process."""

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T: ...

    def weigh(self, key: Hashable, size: int) -> None: ...


class Model(Protocol):
    """Converted weights, as the family that runs them sees them.

    `key` is their digest; `facts` what `model.json` says: task, classes, input size and so on.
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
    """Where and how a run happens.

    `scale` is the side of the picture handed over, divided by the original's: 1.0 in real runs, less in
    previews. An operation multiplies settings measured in pixels by it, so a preview looks like the result.
    `full` is the original's width and height, where they are known.
    `is_preview`: somebody waits for it, so what takes long may be done on less than was handed over.
    `pictures` holds a set for each folder setting that was chosen, under the setting's name. For the engine,
    which runs several steps, under `step.setting` (`workers.recipe.name_steps`).
    `model` is that of the step; the engine takes it from `models`, which are by digest.
    `device` is what networks run on: "cpu" (ONNX Runtime), or by torch "cuda", "cuda:1" and so on, and
    "torch-cpu", the processor again. The rest is for pictures that are run by several threads: `checkpoint`
    raises when the run shall end, `together` tells how many threads there are.
    A run of a network may take `network_seconds` of processor time. It has a process of its own, unless this
    one `is_shut_in` already.
    """

    scale: float = 1.0
    full: tuple[int, int] | None = None
    is_preview: bool = False
    device: str = PROCESSOR
    pictures: Mapping[str, PictureSet] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    model: Model | None = None
    memo: Memo | None = None
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


# --- What it hands back.


@dataclass(frozen=True)
class OutputSpec:
    """One thing an operation delivers."""

    label: str
    kind: Literal["image", "text", "data"]
    title: str


IMAGE = OutputSpec("image", "image", "Picture")


@dataclass(frozen=True)
class Result:
    """What one run made. `format` is a hint: "PNG" where hard edges must stay; None for the input's own.

    `scale` is for pictures whose size does not follow the input's: the picture made, in proportion to what it
    is at full size (1.0 where it always is). None: as the input, `Context.scale`. Later steps go by it.
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

    Raise `version` when the same settings start to give other pixels: kept results are keyed by it.
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
            upload: a `workers.checkpoints.upload.Upload`.
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
