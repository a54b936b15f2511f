"""Run a recipe on one image: decode once, run the steps, encode once."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from workers import registry
from workers.cache import PROCESS_CACHE
from workers.inference import torch_sessions
from workers.media.decode import PIXELS_VERSION, TOO_BIG_TO_HOLD
from workers.media.encode import (
    OutputFile,
    OutputOptions,
    choose_format,
    encode_data,
    encode_image,
    encode_text,
)
from workers.media.picture import Facts, Picture, PictureError, encode_thumbnail
from workers.plugin import JSON, Context, Model, Operation, Params, Result
from workers.recipe import Recipe, Step, label_texts, name_steps
from workers.thumbnail_sizes import PREVIEW_SIDE, THUMBNAIL_SIDE

__all__ = ["OutputFile", "OutputOptions", "RecipeResult", "ThumbnailResult"]

PREVIEW_QUALITY = 80

Plan = tuple[tuple[Operation[Any], Params], ...]


class ModelMissing(Exception):
    """The context lacks the weights of a step. This is an internal error."""


@dataclass(frozen=True)
class RecipeResult:
    """Output of one run. `timings` are milliseconds: decode, run, encode, thumbnail.

    `width` and `height` are those of the output image, or of the input if there is none.
    """

    files: tuple[OutputFile, ...]
    width: int
    height: int
    thumbnail: bytes | None = None
    data: JSON = None
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ThumbnailResult:
    """A WebP of `width` x `height` pixels, and the facts of its source image."""

    data: bytes
    width: int
    height: int
    facts: Facts


def validate_recipe(recipe: Recipe) -> Plan:
    """Return each step's operation and settings. Raises UnknownOperation, ParamsInvalid."""
    return tuple(
        (registry.get(step.operation), registry.validate(step.operation, step.params))
        for step in recipe.steps
    )


def fingerprint(recipe: Recipe) -> str:
    """Return the SHA-256 (hex) of everything that decides the output: all parameters and versions."""
    parts = [f"pixels@{PIXELS_VERSION}"]
    parts += [
        f"{operation.key}@{operation.version}:{params.model_dump_json()}{step.weights or ''}"
        for step, (operation, params) in zip(recipe.steps, validate_recipe(recipe), strict=True)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def run(
    recipe: Recipe,
    data: bytes,
    context: Context | None = None,
    *,
    output: OutputOptions | None = None,
    with_thumbnail: bool = True,
) -> RecipeResult:
    """Run the recipe at full size. Raises OperationError and its subclasses, such as PictureError."""
    plan = validate_recipe(recipe)
    watch = _Stopwatch()
    with _refusing_too_big():
        picture = Picture.open(data)
        result, tables = _run_steps(recipe, plan, picture, _complete(context, 1.0), watch)
        watch.move("run", "decode", picture.decode_ms)
        files = _encode(result, picture, output or OutputOptions(), watch)
        files += tuple(encode_data(label, data) for label, data in tables.items())
        thumbnail = _make_thumbnail(result, watch) if with_thumbnail else None
    return _finish(result, picture, files, thumbnail, watch)


def preview(
    recipe: Recipe, data: bytes, context: Context | None = None, *, max_side: int = PREVIEW_SIDE
) -> RecipeResult:
    """Run the recipe on a reduced image. No side of the output is longer than `max_side` either."""
    plan = validate_recipe(recipe)
    watch = _Stopwatch()
    with _refusing_too_big():
        source = Picture.open(data)
        with watch.measure("decode"):
            picture = source.shrunk(max_side)
        scale = max(picture.width, picture.height) / max(source.width, source.height)
        # A preview returns data in the result, and only stored results have data files.
        full = (source.width, source.height)
        shown = replace(_complete(context, scale), full=full, is_preview=True)
        result, _tables = _run_steps(recipe, plan, picture, shown, watch)
        result = _shrink(result, max_side)
        files = _encode(result, picture, OutputOptions(default_quality=PREVIEW_QUALITY), watch)
    return _finish(result, picture, files, None, watch)


def load_models(recipe: Recipe, context: Context) -> None:
    """Load and warm up the recipe's torch networks. Raises the same errors as loading does.

    Call it before threads share the networks: otherwise each thread loads its own.
    """
    complete = _complete(context, 1.0)
    for step in recipe.steps:
        model = _model_of(step, complete)
        if model is not None and torch_sessions.can_run(model):
            _load_model(complete, model)


def thumbnail(data: bytes, side: int = THUMBNAIL_SIDE) -> ThumbnailResult:
    """Decode the image under the limits and return its thumbnail. Raises PictureError."""
    with _refusing_too_big():
        picture = Picture.open(data)
        small = picture.thumbnail(side)
    return ThumbnailResult(small.data, small.width, small.height, picture.facts)


def _load_model(context: Context, model: Model) -> None:
    try:
        torch_sessions.get_loaded(context, model)
    except MemoryError:
        # Cached models may use the memory.
        PROCESS_CACHE.clear()
    else:
        return
    # Layers refer to each other, so only the collector frees them. The traceback is gone outside `except`.
    gc.collect()
    torch_sessions.get_loaded(context, model)


class _Stopwatch:
    """Milliseconds by stage. Steps decode lazily, so `move` books that time as decoding."""

    def __init__(self) -> None:
        self.timings = dict.fromkeys(("decode", "run", "encode", "thumbnail"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] += (time.perf_counter() - started) * 1000

    def move(self, source: str, target: str, amount: float) -> None:
        self.timings[source] = max(0.0, self.timings[source] - amount)
        self.timings[target] += amount


@contextmanager
def _refusing_too_big() -> Iterator[None]:
    """Turn MemoryError into PictureError: under a memory limit, a retry of the image fails again."""
    try:
        yield
    except MemoryError as error:
        raise PictureError("memory", TOO_BIG_TO_HOLD) from error


def _complete(context: Context | None, scale: float) -> Context:
    context = context or Context()
    return replace(context, scale=scale, memo=PROCESS_CACHE if context.memo is None else context.memo)


def _run_steps(
    recipe: Recipe, plan: Plan, picture: Picture, context: Context, watch: _Stopwatch
) -> tuple[Result, dict[str, JSON]]:
    """Run each step on the output pixels of the previous one, without encoding in between.

    The result has the texts and data of all steps.

    Returns:
        The result, and by label the data that are also delivered as files.
    """
    result = Result()
    tables: dict[str, JSON] = {}
    texts: dict[str, str] = {}
    data: dict[str, JSON] = {}
    names = name_steps(operation.key for operation, _ in plan)
    labels = label_texts([operation.outputs for operation, _ in plan])
    for position, (operation, params) in enumerate(plan):
        if result.image is not None:
            picture = Picture.of(result.image, like=picture)
        own = _narrow(context, names[position], is_last=position == len(plan) - 1)
        own = replace(own, model=_model_of(recipe.steps[position], context))
        with watch.measure("run"):
            output = operation.run(picture, params, own)
        texts.update({labels[position].get(label, label): text for label, text in output.texts.items()})
        if output.data is not None:
            data[names[position]] = output.data
            declared = [spec.label for spec in operation.outputs if spec.kind == "data"]
            tables.update({labels[position][label]: output.data for label in declared})
        if output.scale is not None:
            context = replace(context, scale=output.scale)
        if output.image is not None and output.image.size != (picture.width, picture.height):
            context = replace(context, full=None)
        image = result.image if output.image is None else output.image
        result = Result(image, output.format or result.format, dict(texts), _merge(data))
    return result, tables


def _narrow(context: Context, step: str, *, is_last: bool) -> Context:
    """Return a context with only the parameter images of one step: those named `step.parameter`.

    Images without a step's name belong to the last step.
    """
    own = {
        name.removeprefix(f"{step}."): pictures
        for name, pictures in context.pictures.items()
        if name.startswith(f"{step}.") or (is_last and "." not in name)
    }
    return replace(context, pictures=own)


def _model_of(step: Step, context: Context) -> Model | None:
    if step.weights is None:
        return None
    if step.weights not in context.models:
        raise ModelMissing(f"The context of {step.operation} lacks the model {step.weights}.")
    return context.models[step.weights]


def _merge(data: dict[str, JSON]) -> JSON:
    return next(iter(data.values())) if len(data) == 1 else (dict(data) or None)


def _encode(
    result: Result, picture: Picture, options: OutputOptions, watch: _Stopwatch
) -> tuple[OutputFile, ...]:
    files = []
    with watch.measure("encode"):
        if result.image is not None:
            format = choose_format(result.image, result.format, picture.facts, options)
            files.append(encode_image(result.image, format, options, picture.facts.coding))
        files.extend(encode_text(label, text) for label, text in result.texts.items())
    return tuple(files)


def _make_thumbnail(result: Result, watch: _Stopwatch) -> bytes | None:
    if result.image is None:
        return None
    with watch.measure("thumbnail"):
        return encode_thumbnail(result.image, THUMBNAIL_SIDE).data


def _shrink(result: Result, max_side: int) -> Result:
    """Bring what an operation drew larger down to a preview. Its hard edges are gone then, and its hint."""
    image = result.image
    if image is None or max(image.size) <= max_side:
        return result
    mode = {"1": "L", "P": "RGBA" if "transparency" in image.info else "RGB"}.get(image.mode, image.mode)
    small = image.convert(mode)
    small.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    return replace(result, image=small, format=None)


def _finish(
    result: Result,
    picture: Picture,
    files: tuple[OutputFile, ...],
    thumbnail: bytes | None,
    watch: _Stopwatch,
) -> RecipeResult:
    width, height = result.image.size if result.image is not None else (picture.width, picture.height)
    return RecipeResult(files, width, height, thumbnail, result.data, watch.timings)
