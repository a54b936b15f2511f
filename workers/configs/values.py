"""Values of a config.json, which a stranger wrote: read as what they should be, or told of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from workers.bundle import Filter
from workers.checkpoints.upload import show

Config = Mapping[str, Any]
# By the numbers that Hugging Face writes.
FILTERS: tuple[Filter, ...] = get_args(Filter)
_SHOWN = 40


class Unclear(Exception):
    """A config says something about images that cannot be followed. The message is a sentence for the
    seller."""


def read_flag(config: Config, name: str) -> bool | None:
    """Return what a key says, None where nothing. Raises Unclear where it is neither true nor false."""
    found = config.get(name)
    if found is not None and not isinstance(found, bool):
        raise Unclear(f"The {name} of the config.json is {show_value(found)}, neither true nor false.")
    return found


def read_numbers(config: Config, name: str, most: float) -> list[float] | None:
    """Return a number for each channel, or one for all; None where nothing is said. Raises Unclear."""
    found = config.get(name)
    if found is None:
        return None
    numbers = found if isinstance(found, list) else [found]
    if len(numbers) not in (1, 3) or not all(is_number(one) and 0 <= one <= most for one in numbers):
        raise Unclear(f"The {name} of the config.json is not 3 numbers of 0 to {most:g}.")
    return [float(number) for number in numbers]


def read_kind(config: Config) -> str:
    """Return the model that an image processor was written for: "vit" of "ViTImageProcessorFast"."""
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
    return re.sub(r"(ImageProcessor|FeatureExtractor)\w*$", "", str(named)).lower()


def is_number(value: Any) -> bool:
    is_kind = isinstance(value, int | float) and not isinstance(value, bool)
    # Far more than any of them; whole numbers may have thousands of digits.
    return is_kind and -1e30 < value < 1e30


def show_value(value: Any) -> str:
    """Return the beginning of a value, without what cannot be printed."""
    return show(str(value), _SHOWN)


def read_filter(found: Any) -> str | None:
    """Return the name of the filter that images are resized with, from its name or number. Raises Unclear."""
    if found is None:
        return None
    name = FILTERS[found] if type(found) is int and 0 <= found < len(FILTERS) else found
    if not isinstance(name, str) or name.lower() not in FILTERS:
        known = ", ".join(f"{number} ({name})" for number, name in enumerate(FILTERS))
        raise Unclear(f"The config.json resizes with {show_value(found)}, which is none of {known}.")
    return name.lower()
