"""Read a classifier's preprocessing from timm's config.json: `pretrained_cfg`, or its keys at the top level.

Source: `timm.data.resolve_data_config` and `timm.models._hub.load_model_config_from_hf`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workers.bundle import LEAST_CROP
from workers.configs.values import Config, Unclear, is_number, read_filter, read_numbers, show_value

# timm's defaults.
_CROP, _FILTER = 0.875, "bicubic"
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_SIGNS = ("input_size", "interpolation", "crop_mode", "first_conv", "num_features")


def find_timm(config: Config) -> Config | None:
    """Return timm's settings of a pretrained model in a config. None: not a config of timm."""
    settings = config.get("pretrained_cfg")
    if isinstance(settings, Mapping):
        return settings
    is_flat = isinstance(config.get("architecture"), str) and any(name in config for name in _SIGNS)
    return config if is_flat else None


def read_timm(settings: Config) -> dict[str, Any]:
    """Return the preprocessing in timm's settings, as fields of `model_config.Wishes`.

    Raises Unclear.
    """
    side = _read_side(settings)
    mode = settings.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise Unclear(
            f"The crop_mode of the config.json is {show_value(mode)}. Only “center” and “squash” are "
            "supported: evaluate your model with one of these, and set it."
        )
    return {
        "size": side,
        "mean": read_numbers(settings, "mean", 1) or _MEAN,
        "std": read_numbers(settings, "std", 1) or _STD,
        "crop_pct": _read_crop(settings, side),
        "stretch": mode == "squash",
        "resample": read_filter(settings.get("interpolation")) or _FILTER,
    }


def _read_side(settings: Config) -> int | None:
    size = settings.get("input_size")
    if size is None:
        return None
    sides = size[1:] if isinstance(size, list) and len(size) == 3 else size
    if (
        not isinstance(sides, list)
        or len(sides) != 2
        or type(sides[0]) is not int
        or not sides[0] == sides[1] > 0
    ):
        raise Unclear(
            f"The input_size of the config.json, {show_value(size)}, is not square. Use a size such as [3, "
            "224, 224]."
        )
    return int(sides[0])


def _read_crop(settings: Config, side: int | None) -> float:
    """Return the crop's share of the resized side, which is rounded to whole pixels."""
    share = settings.get("crop_pct")
    if share is None:
        share = _CROP
    if not is_number(share) or not LEAST_CROP <= share <= 1:
        raise Unclear(
            f"The crop_pct of the config.json, {show_value(share)}, is not between {LEAST_CROP} and 1."
        )
    return float(share) if side is None else side / math.floor(side / share)
