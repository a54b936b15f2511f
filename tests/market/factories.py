"""A family and converted models for tests: real rows and files, without a neural network."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from accounts.models import User
from drive.storage import blobs
from market.models import Conversion, ConversionState, Version
from market.weights.releases import Release, keep_weights, release_model
from workers import registry
from workers.bundle import FACTS, GRAPH, WEIGHTS
from workers.plugin import (
    IMAGE,
    Context,
    Family,
    Kept,
    OperationError,
    OutputSpec,
    Params,
    PictureView,
    Result,
    slider,
)


class MarksParams(Params):
    confidence: float = slider(0.25, ge=0, le=1, step=0.05, title="Confidence", help="Minimum confidence.")


class Marks(Family[MarksParams]):
    """Detects one object per class in the center. The bytes of the model are the confidences."""

    key = "marks"
    title = "Marks"
    summary = "Finds things in the middle."
    description = "For tests."
    outputs: ClassVar[tuple[OutputSpec, ...]] = (IMAGE, OutputSpec("detections", "data", "Detections"))
    Params = MarksParams

    def keeps(self, params: MarksParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def recognize(self, upload: Any) -> str | None:
        return None

    def convert(self, upload: Any) -> Any:
        raise NotImplementedError

    def run(self, picture: PictureView, params: MarksParams, context: Context) -> Result:
        if context.model is None:
            raise OperationError("There is no model.")
        sure = context.keep(("marks", context.model.key), lambda: context.model.read(GRAPH), len)
        found = [
            {
                "x": picture.width / context.scale / 2,
                "y": picture.height / context.scale / 2,
                "width": 10.0 * (position + 1),
                "height": 10.0,
                "confidence": sure[position] / 100,
                "class": name,
                "class_id": position,
            }
            for position, name in enumerate(context.model.facts["classes"])
            if sure[position] / 100 >= params.confidence
        ]
        size = {
            "width": round(picture.width / context.scale),
            "height": round(picture.height / context.scale),
        }
        return Result(image=picture.rgb(), data={"image": size, "predictions": found})


@contextmanager
def marks() -> Iterator[None]:
    """Register the family during the block."""
    with registry.register(Marks()):
        yield


def facts_of(files: Mapping[str, bytes], **changes: Any) -> dict[str, Any]:
    """Return the content of model.json for these files."""
    return {
        "family": "marks",
        "task": "detect",
        "title": "Marks detector",
        "classes": ["cat", "dog"],
        "input": {"width": 64, "height": 64, "channels": 3},
        "stride": 32,
        "parameters": 6,
        "layout": "marks",
        "architecture": {},
        "difference": 0.0,
        "tolerance": 0.001,
        "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "size": len(b)} for n, b in files.items()},
        "converter": 1,
        **changes,
    }


def bundle_bytes(sure: tuple[int, ...] = (90, 40), **changes: Any) -> dict[str, bytes]:
    """Return the three files of a model with these confidences of its classes, in percent."""
    files = {GRAPH: bytes(sure), WEIGHTS: b"weights of " + bytes(sure)}
    return {**files, FACTS: json.dumps(facts_of(files, **changes)).encode()}


def model(
    owner: User,
    name: str = "finder",
    *,
    sure: tuple[int, ...] = (90, 40),
    publish: bool = False,
    **facts: Any,
) -> Version:
    """Return a version of a model of `owner`, as a conversion that succeeded leaves it. Needs `marks`."""
    files = {
        n: blobs.store(content, "application/octet-stream")
        for n, content in bundle_bytes(sure, **facts).items()
    }
    blobs.register(files.values())
    conversion = Conversion(
        owner=owner,
        source_id=files[WEIGHTS].sha256,
        source_sha256=files[WEIGHTS].sha256,
        source_name=f"{name}.pt",
        name=name,
        title=name.capitalize(),
        publish=publish,
    )
    conversion.save()
    content = json.loads(blobs.read(files[FACTS].sha256))
    weights = keep_weights(facts=content, files=files, source_sha256=conversion.source_sha256)
    wanted = Release(owner_id=owner.pk, name=name, title=name.capitalize(), publish=publish)
    version = release_model(wanted=wanted, weights=weights)
    conversion.state, conversion.source, conversion.version = ConversionState.SUCCEEDED, None, version
    conversion.completed_at = conversion.created_at
    conversion.save()
    return version
