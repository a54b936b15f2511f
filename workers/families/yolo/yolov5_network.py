"""Network of the YOLOv5 repository: layers of Ultralytics, with an anchor-based head.

Source: ultralytics/yolov5, releases 6 and 7. `Detect` is reimplemented here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import parse_model

# Columns before the class scores: box and objectness.
_BEFORE_CLASSES = 5
_PROBE = 256


class AnchorDetect(nn.Module):  # type: ignore[misc]  # torch's is untyped
    """Detection head: (n, boxes, 5 + classes), centers and sizes in pixels."""

    def __init__(self, classes: int, anchors: int, channels: list[int]) -> None:
        super().__init__()
        self.columns = classes + _BEFORE_CLASSES
        self.anchors: Tensor
        # In units of the stride, as the checkpoint has them.
        self.register_buffer("anchors", torch.zeros(len(channels), anchors, 2))
        self.stride = torch.zeros(len(channels))
        self.m = nn.ModuleList(nn.Conv2d(count, self.columns * anchors, 1) for count in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.cat([self._read(index, one) for index, one in enumerate(features)], 1)

    def _read(self, index: int, feature: Tensor) -> Tensor:
        count, stride = self.anchors.shape[1], float(self.stride[index])
        raw = self.m[index](feature)
        batch, _, height, width = raw.shape
        raw = raw.view(batch, count, self.columns, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        sides = (torch.arange(side, device=raw.device) for side in (height, width))
        rows, columns = torch.meshgrid(*sides, indexing="ij")
        place = torch.stack((columns, rows), 2).to(raw) - 0.5
        centers = (raw[..., :2] * 2 + place) * stride
        sizes = (raw[..., 2:4] * 2) ** 2 * (self.anchors[index] * stride).view(1, count, 1, 1, 2)
        found = torch.cat((centers, sizes, raw[..., 4:]), 4)
        return found.view(batch, -1, self.columns)


class Yolov5Network(nn.Module):  # type: ignore[misc]  # torch's is untyped
    """The network of validated YAML, with the tensor names of the repository."""

    def __init__(self, description: dict[str, Any]) -> None:
        """May raise anything if layers do not fit each other."""
        super().__init__()
        self.channels: int = description["channels"]
        rows: list[Any] = [*description["backbone"], *description["head"]]
        before, last = rows[:-1], rows[-1]
        inner = {**copy.deepcopy(description), "backbone": copy.deepcopy(before), "head": []}
        layers, save = parse_model(inner, ch=description["channels"], verbose=False)
        self.sources: list[int] = last[0] if isinstance(last[0], list) else [last[0]]
        self.save = {*save, *(source % len(before) for source in self.sources)}
        head = AnchorDetect(description["nc"], description["anchors"], description["widths"])
        head.i, head.f = len(before), self.sources
        self.model = nn.Sequential(*layers, head)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03

    def forward(self, image: Tensor) -> Tensor:
        kept: list[Any] = []
        found: Any = image
        for layer in self.model:
            if layer.f != -1:
                found = (
                    kept[layer.f]
                    if isinstance(layer.f, int)
                    else [found if source == -1 else kept[source] for source in layer.f]
                )
            found = layer(found)
            kept.append(found if layer.i in self.save else None)
        result: Tensor = found
        return result

    def measure_strides(self) -> None:
        """Measure the stride of each feature map in pixels."""
        sizes: list[int] = []
        head = self.model[-1]
        hook = head.register_forward_pre_hook(lambda _, given: sizes.extend(x.shape[-2] for x in given[0]))
        with torch.inference_mode():
            self(torch.zeros(1, self.channels, _PROBE, _PROBE))
        hook.remove()
        head.stride = torch.tensor([_PROBE / size for size in sizes])

    def fold(self) -> None:
        """Fold batch normalization into the convolutions before it."""
        from ultralytics.nn.modules import Conv, DWConv
        from ultralytics.utils.torch_utils import fuse_conv_and_bn

        for module in self.modules():
            if isinstance(module, (Conv, DWConv)) and hasattr(module, "bn"):
                module.conv = fuse_conv_and_bn(module.conv, module.bn)
                delattr(module, "bn")
                module.forward = module.forward_fuse
