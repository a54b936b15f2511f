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
    """The context lacks the model of a step: an internal error."""


@dataclass(frozen=True)
class RecipeResult:
    """Output of one run. `timings` are in milliseconds: decode, run, encode, thumbnail.

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
    """A WebP image of `width` x `height` pixels, and the facts of the original image."""

    data: bytes
    width: int
    height: int
    facts: Facts


def validate_recipe(recipe: Recipe) -> Plan:
    """Return the operation and validated parameters of each step. Raises UnknownOperation, ParamsInvalid."""
    return tuple(
        (registry.get(step.operation), registry.validate(step.operation, step.params))
        for step in recipe.steps
    )


def fingerprint(recipe: Recipe) -> str:
    """Return the SHA-256 (hex) of all that affects the pixels: parameters with defaults, and versions."""
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
    """Run the recipe at full size. Raises PictureError, OperationError and their subclasses."""
    plan = validate_recipe(recipe)
    watch = _Stopwatch()
    with _reject_too_large():
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
    """Run the recipe on a reduced image. Input and output have no side above `max_side`."""
    plan = validate_recipe(recipe)
    watch = _Stopwatch()
    with _reject_too_large():
        source = Picture.open(data)
        with watch.measure("decode"):
            picture = source.shrunk(max_side)
        scale = max(picture.width, picture.height) / max(source.width, source.height)
        # Previews return data directly. Only stored results have data files.
        full = (source.width, source.height)
        shown = replace(_complete(context, scale), full=full, is_preview=True)
        result, _tables = _run_steps(recipe, plan, picture, shown, watch)
        result = _shrink(result, max_side)
        files = _encode(result, picture, OutputOptions(default_quality=PREVIEW_QUALITY), watch)
    return _finish(result, picture, files, None, watch)


def load_models(recipe: Recipe, context: Context) -> None:
    """Load and warm up the torch networks of a recipe, before threads share them.

    Without it, each thread would load its own copy. Raises the errors of loading.
    """
    complete = _complete(context, 1.0)
    for step in recipe.steps:
        model = _model_of(step, complete)
        if model is not None and torch_sessions.can_run(model):
            _load_model(complete, model)


def thumbnail(data: bytes, side: int = THUMBNAIL_SIDE) -> ThumbnailResult:
    """Decode the full image, within the limits, and return a thumbnail. Raises PictureError."""
    with _reject_too_large():
        picture = Picture.open(data)
        small = picture.thumbnail(side)
    return ThumbnailResult(small.data, small.width, small.height, picture.facts)


def _load_model(context: Context, model: Model) -> None:
    try:
        torch_sessions.get_loaded(context, model)
    except MemoryError:
        # Models loaded earlier may use the memory.
        PROCESS_CACHE.clear()
    else:
        return
    # Models have reference cycles, and the traceback refers to the failed one.
    gc.collect()
    torch_sessions.get_loaded(context, model)


class _Stopwatch:
    """Milliseconds by stage. Decoding happens inside steps, so its time is moved to its own stage."""

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
def _reject_too_large() -> Iterator[None]:
    """Turn MemoryError into PictureError: with an address-space limit, a retry would fail too."""
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
    """Run each step on the pixels of the step before, without encoding in between.

    Texts and data of all steps are collected.

    Returns:
        The result, and the data that is also returned as files, by label.
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
            step_result = operation.run(picture, params, own)
        texts.update({labels[position].get(label, label): text for label, text in step_result.texts.items()})
        if step_result.data is not None:
            data[names[position]] = step_result.data
            declared = [output.label for output in operation.outputs if output.kind == "data"]
            tables.update({labels[position][label]: step_result.data for label in declared})
        if step_result.scale is not None:
            context = replace(context, scale=step_result.scale)
        if step_result.image is not None and step_result.image.size != (picture.width, picture.height):
            context = replace(context, full=None)
        image = result.image if step_result.image is None else step_result.image
        result = Result(image, step_result.format or result.format, dict(texts), _merge(data))
    return result, tables


def _narrow(context: Context, step: str, *, is_last: bool) -> Context:
    """Return a context with only the folders of one step: those named `step.parameter`.

    Folders without a step name belong to the last step.
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
        raise ModelMissing(f"The context lacks the model {step.weights} of {step.operation}.")
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
    """Reduce a result that is larger than a preview. Resizing blurs hard edges, so drop the format hint."""
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
