"""Read and validate single values of an untrusted config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from workers.bundle import Filter
from workers.checkpoints.upload import show

Config = Mapping[str, Any]
# By Hugging Face's numbers.
FILTERS: tuple[Filter, ...] = get_args(Filter)
_SHOWN = 40


class Unclear(Exception):
    """A config has preprocessing that is not supported. The message is for the seller."""


def read_flag(config: Config, name: str) -> bool | None:
    """Return a boolean value, or None if the key is missing. Raises Unclear for other types."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise Unclear(f"The {name} of the config.json is {show_value(value)}. It must be true or false.")
    return value


def read_numbers(config: Config, name: str, most: float) -> list[float] | None:
    """Return a number for each channel, or one for all. None: the key is missing. Raises Unclear."""
    value = config.get(name)
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) not in (1, 3) or not all(is_number(one) and 0 <= one <= most for one in numbers):
        raise Unclear(f"The {name} of the config.json must be 3 numbers from 0 to {most:g}.")
    return [float(number) for number in numbers]


def read_kind(config: Config) -> str:
    """Return the model kind of an image processor: "vit" for "ViTImageProcessorFast"."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
    return re.sub(r"(ImageProcessor|FeatureExtractor)\w*$", "", str(name)).lower()


def is_number(value: Any) -> bool:
    is_kind = isinstance(value, int | float) and not isinstance(value, bool)
    # A generous limit, because JSON integers may have thousands of digits.
    return is_kind and -1e30 < value < 1e30


def show_value(value: Any) -> str:
    """Return the printable characters of the start of a value."""
    return show(str(value), _SHOWN)


def read_filter(found: Any) -> str | None:
    """Return the name of a resize filter, given by name or number. Raises Unclear."""
    if found is None:
        return None
    name = FILTERS[found] if type(found) is int and 0 <= found < len(FILTERS) else found
    if not isinstance(name, str) or name.lower() not in FILTERS:
        known = ", ".join(f"{number} ({name})" for number, name in enumerate(FILTERS))
        raise Unclear(f"The config.json resizes with {show_value(found)}. It must be one of {known}.")
    return name.lower()
