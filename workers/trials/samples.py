"""The pictures that a model is tried on, as small as it takes for one to cost seconds, not minutes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from workers.media.picture import fit

# What one picture may cost: some six seconds of one core.
MOST_FLOPS = 300 * 10**9
_FOLDER = Path(__file__).parent / "pictures"
_LEAST_SIDE = 64
_QUALITY = 88


@dataclass(frozen=True)
class SamplePicture:
    """A file of `pictures/`, and what it shows."""

    name: str
    caption: str


PICTURES = (
    SamplePicture("cat", "The face of a cat"),
    SamplePicture("coffee", "A cup of coffee on a table"),
    SamplePicture("shapes", "Drawn shapes on a coloured ground"),
)


def takes_pictures(facts: Mapping[str, Any]) -> bool:
    """Say whether a model looks at the picture that it is handed; one that draws from noise does not."""
    return facts.get("layout") != "noise"


def pictures_for(facts: Mapping[str, Any]) -> list[bytes]:
    """Return the pictures, as JPEG, that a model of these facts is tried on. The same ones each time."""
    chosen = PICTURES if takes_pictures(facts) else PICTURES[:1]
    return [reduce((_FOLDER / f"{picture.name}.jpg").read_bytes(), facts) for picture in chosen]


def reduce(data: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return a picture, JPEG or WebP, that does not cost too much. Only generators' cost goes by its size."""
    side = facts.get("architecture", {}).get("flops_side")
    if not isinstance(side, int) or side < 1 or not facts.get("flops"):
        return data
    with Image.open(io.BytesIO(data), formats=["JPEG", "WEBP"]) as image:
        cost = facts["flops"] / side**2 * image.width * image.height
        if cost <= MOST_FLOPS:
            return data
        longest = max(_LEAST_SIDE, int(max(image.size) * math.sqrt(MOST_FLOPS / cost)))
        small = image.convert("RGB").resize(fit(image.size, longest), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()
