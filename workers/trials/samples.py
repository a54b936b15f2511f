"""Sample images for trials, reduced so that each one takes a model seconds, not minutes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from workers.media.picture import fit

# Limit for one image: about six seconds of one core.
MOST_FLOPS = 300 * 10**9
_FOLDER = Path(__file__).parent / "pictures"
_LEAST_SIDE = 64
_QUALITY = 88


@dataclass(frozen=True)
class SampleImage:
    """A file in `pictures/` and its caption."""

    name: str
    caption: str


IMAGES = (
    SampleImage("cat", "The face of a cat"),
    SampleImage("coffee", "A cup of coffee on a table"),
    SampleImage("shapes", "Drawn shapes on a colored background"),
)


def takes_images(facts: Mapping[str, Any]) -> bool:
    """Return whether a model uses its input image. Generators that start from noise do not."""
    return facts.get("layout") != "noise"


def images_for(facts: Mapping[str, Any]) -> list[bytes]:
    """Return the sample images, as JPEG, for a model with these facts. Always the same ones."""
    chosen = IMAGES if takes_images(facts) else IMAGES[:1]
    return [reduce((_FOLDER / f"{image.name}.jpg").read_bytes(), facts) for image in chosen]


def reduce(data: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return an image, reduced to the cost limit if needed. Only the cost of generators depends on its size.

    Args:
        data: a JPEG or WebP.
    """
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
