"""Read image preprocessing from configs of Hugging Face and timm: size, crop, mean, std, resampling.

Sources: the image processors of `transformers` (`preprocessor_config.json`) and
`timm.data.resolve_data_config` (`pretrained_cfg`). An unknown key that could change pixels is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from workers.configs.image_sizes import read_geometry
from workers.configs.timm import find_timm, read_timm
from workers.configs.values import (
    Config,
    Unclear,
    is_number,
    read_filter,
    read_flag,
    read_kind,
    read_numbers,
    show_value,
)

# Keys of Hugging Face's processors that are read here, or that do not change an RGB image.
_HARMLESS = frozenset({
    "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order", "do_convert_rgb",
    "do_reduce_labels", "do_pooling", "do_sample", "do_convert_annotations", "do_remap_zero",
    "image_size", "image_mean", "image_std", "image_processor_type", "image_processor", "image_seq_length",
    "image_token_id", "image_token_index", "crop_size", "crop_pct", "resample", "rescale_factor",
    "rescale_offset",
})  # fmt: skip
_PREPARING = re.compile(
    r"do_\w+|image_(means?|stds?|scale|range|norm\w*|pad\w*|crop\w*|resize\w*)|(crop|resample|rescale|resize)\w*"
    r"|normali[sz](e|ation)|pad_size|size_divisor|scale|ensure_multiple_of|keep_aspect_ratio|means|stds"
    r"|(input|pixel)_(means?|stds?|scale)|interpolation(_mode)?"
)
# Sections of Hugging Face's config files that users paste into one file.
_NESTED = ("image_processor", "preprocessor_config", "feature_extractor")


def read_processor(config: Config) -> dict[str, Any]:
    """Return the image preprocessing of a config, as fields of `model_config.Wishes`.

    `unclear` is an error message if the config is not supported. It matters only for classifiers and semantic
    segmentation.
    """
    try:
        fields = _read(merge(config))
    except Unclear as unclear:
        return {"unclear": str(unclear)}
    return {name: value for name, value in fields.items() if value is not None}


def merge(config: Config) -> dict[str, Any]:
    """Return a config with the settings of its image processor merged into the top level."""
    inner = [config[name] for name in _NESTED if isinstance(config.get(name), Mapping)]
    merged = {name: value for part in (config, *inner) for name, value in part.items()}
    return {name: value for name, value in merged.items() if name not in _NESTED or isinstance(value, str)}


def _read(config: Config) -> dict[str, Any]:
    timm = find_timm(config)
    if timm is config:
        return read_timm(timm)
    _refuse_unknown(config)
    parts = (
        {} if timm is None else read_timm(timm),
        read_geometry(config),
        _read_colors(config),
        {"resample": read_filter(config.get("resample")), "order": _read_order(config)},
    )
    return {name: value for part in parts for name, value in part.items() if value is not None}


def _read_order(config: Config) -> str | None:
    flips = read_flag(config, "do_flip_channel_order")
    return "bgr" if flips else None


def _refuse_unknown(config: Config) -> None:
    for name, value in config.items():
        if _PREPARING.fullmatch(name) and name not in _HARMLESS and value not in (None, False):
            raise Unclear(
                f"The config.json has {show_value(name)} = {show_value(value)}, which is not supported. "
                "Do this step inside the graph, or remove the key if it has no effect."
            )


def _read_colors(config: Config) -> dict[str, Any]:
    """Return mean and std for pixels from 0 to 1, for any rescaling in the config.

    A processor computes ((pixel · factor - offset) - mean) / std for pixels from 0 to 255.
    """
    white, offset = 255 * _read_factor(config), _read_offset(config)
    most = 1.0 if white == 1 else 255.0
    mean, std = read_numbers(config, "image_mean", most), read_numbers(config, "image_std", most)
    if std is not None and 0 in std:
        raise Unclear("The image_std of the config.json contains 0. Its values must be above 0.")
    divisor = _read_divisor(config, std)
    if read_flag(config, "do_normalize") is False:
        mean, std = [0.0], [1.0]
    elif (white, offset) != (1, 0) and (mean is None or std is None):
        raise Unclear(
            "The config.json defines how pixels are rescaled, but not how they are normalized. Add "
            "image_mean and image_std, or “do_normalize”: false."
        )
    if mean is not None:
        mean = [(value + offset) / white for value in mean]
    if std is not None:
        std = [value * by / white for value, by in _pair(std, divisor)]
    return {"mean": mean, "std": std}


def _pair(numbers: list[float], others: list[float]) -> list[tuple[float, float]]:
    length = max(len(numbers), len(others))
    return [(numbers[at % len(numbers)], others[at % len(others)]) for at in range(length)]


def _read_factor(config: Config) -> float:
    factor = config.get("rescale_factor")
    if read_flag(config, "do_rescale") is False:
        return 1.0
    if factor is None:
        # The processor of video transformers also subtracts one.
        return 1 / 127.5 if read_kind(config) == "vivit" else 1 / 255
    if not is_number(factor) or not 0 < factor <= 1:
        text = (
            f"The rescale_factor of the config.json is {show_value(factor)}. It must be above 0 and up to 1."
        )
        raise Unclear(text)
    # Configs write 1/255 with about ten digits, which may be another float.
    usual = (one for one in (1 / 255, 1 / 127.5) if math.isclose(one, factor, rel_tol=1e-4))
    return next(usual, float(factor))


def _read_offset(config: Config) -> float:
    """Return 1 if the config subtracts one from rescaled pixels (`rescale_offset`, `offset`), else 0."""
    if read_flag(config, "do_rescale") is False:
        return 0.0
    flags = [flag for name in ("rescale_offset", "offset") if (flag := read_flag(config, name)) is not None]
    return float(any(flags) if flags else read_kind(config) == "vivit")


def _read_divisor(config: Config, std: list[float] | None) -> list[float]:
    """Return std for EfficientNet's processor, which divides by it twice unless `include_top` is false."""
    include_top = read_flag(config, "include_top")
    is_twice = read_kind(config) == "efficientnet" if include_top is None else include_top
    return std if is_twice and std else [1.0]
