"""Read a classifier's resize and crop from a config, as Hugging Face's image processors apply them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from workers.configs.values import Config, Unclear, is_number, read_flag, read_kind, show_value

# A square; the shorter side; or a number, which means one or the other depending on the model.
Kind = Literal["square", "short", "number"]
# Processors for which a single number means a square.
_SQUARE_KINDS = frozenset({"vit", "deit", "beit", "swin", "data2vecvision"})
# ConvNeXt's processor center-crops images below this side, and stretches larger ones.
_SQUEEZED_FROM = 384
_CONVNEXT_CROP = 224 / 256
# LeViT's processor multiplies the shorter side by this factor.
_LEVIT = 256 / 224
_SQUARE_SIZE = "{“height”: 224, “width”: 224}"


def read_geometry(config: Config) -> dict[str, Any]:
    """Return `size`, `crop_pct` and `stretch` of `model_config.Wishes`. None: not stated.

    Raises Unclear if the config does not bring every image to one square.
    """
    if read_flag(config, "do_resize") is False:
        raise Unclear(
            "The config.json has do_resize = false, so images would keep their own size. Set do_resize = "
            f"true and the size, such as {_SQUARE_SIZE}."
        )
    image_size = config.get("image_size")
    if isinstance(image_size, list) and len(set(map(str, image_size))) > 1:
        raise Unclear(f"The image_size of the config.json, {show_value(image_size)}, is not square.")
    kind, before = _read_size(config)
    cuts = read_flag(config, "do_center_crop")
    if before is not None and _is_convnext(config, kind):
        return _read_convnext(config, before)
    if kind == "short" and cuts is False:
        raise Unclear(
            "The config.json has shortest_edge and do_center_crop = false, so images would not be square. "
            f"Set do_center_crop = true, or the size as {_SQUARE_SIZE}."
        )
    if cuts or (cuts is None and kind == "short") or (cuts is None and config.get("crop_pct") is not None):
        return _read_cut(config, kind, before)
    is_said = cuts is False or kind == "square" or config.get("do_resize") is True
    return {"size": before, "stretch": True if is_said else None}


def _read_size(config: Config) -> tuple[Kind, int | None]:
    """Return the meaning of `size`, and its pixels. Raises Unclear for other shapes than squares."""
    size = config.get("size")
    if size is None:
        return "number", None
    if isinstance(size, Mapping):
        return _read_named_size(size)
    sides = size if isinstance(size, list) else [size]
    if not 1 <= len(sides) <= 2 or not all(is_number(side) for side in sides) or len(set(sides)) != 1:
        raise Unclear(f"The size of the config.json, {show_value(size)}, is not square.")
    side = _as_pixels(sides[0])
    if isinstance(size, list):
        return "square", side
    is_square = read_flag(config, "default_to_square")
    if is_square is None:
        is_square = True if read_kind(config) in _SQUARE_KINDS else None
    return ("number" if is_square is None else "square" if is_square else "short"), side


def _read_named_size(size: Mapping[str, Any]) -> tuple[Kind, int]:
    sides = {name: side for name, side in size.items() if side is not None}
    if sides.keys() == {"shortest_edge"}:
        return "short", _as_pixels(sides["shortest_edge"])
    if sides.keys() == {"height", "width"} and sides["height"] == sides["width"]:
        return "square", _as_pixels(sides["height"])
    raise Unclear(
        f"The size of the config.json, {show_value(dict(size))}, is not square. Classifiers take "
        f"square images: use {_SQUARE_SIZE} or {{“shortest_edge”: 224}}."
    )


def _as_pixels(side: Any) -> int:
    if type(side) is not int or not 1 <= side <= 8192:
        raise Unclear(f"The config.json has a size of {show_value(side)}. It must be 1 to 8192 pixels.")
    return side


def _is_convnext(config: Config, kind: Kind) -> bool:
    named = read_kind(config)
    cuts = config.get("do_center_crop") is None and config.get("do_resize") is True
    return named.startswith("convnext") or (
        not named and kind == "short" and cuts and config.get("crop_pct") is not None
    )


def _read_convnext(config: Config, side: int) -> dict[str, Any]:
    if side >= _SQUEEZED_FROM:
        return {"size": side, "stretch": True, "crop_pct": 1.0}
    crop = config.get("crop_pct")
    return {"size": side, "stretch": False, "crop_pct": _CONVNEXT_CROP if crop is None else crop}


def _read_cut(config: Config, kind: Kind, before: int | None) -> dict[str, Any]:
    """Return the center crop of an image that was resized by its shorter side or stretched."""
    crop = config.get("crop_size")
    side = before if crop is None else _read_named_size(_as_named(crop))[1]
    is_squeezed = kind == "square"
    share = config.get("crop_pct")
    if share is not None or before is None or side is None:
        return {"size": side, "stretch": is_squeezed, "crop_pct": share}
    if read_kind(config) == "levit":
        before = int(before * _LEVIT)
    if side > before:
        raise Unclear(
            f"The config.json crops {side} pixels from {before}, which would add a black border. Set a "
            "crop_size that is not larger than the size."
        )
    return {"size": side, "stretch": is_squeezed, "crop_pct": None if side == before else side / before}


def _as_named(size: Any) -> Mapping[str, Any]:
    if isinstance(size, Mapping):
        return size
    sides = size if isinstance(size, list) and len(size) == 2 else [size, size]
    return {"height": sides[0], "width": sides[1]}
