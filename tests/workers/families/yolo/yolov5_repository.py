"""What the older yolov5 repository's code does, written again as far as a detector needs it.

Its checkpoints name classes of the modules `models.common` and `models.yolo`: while one is saved, these.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]]
DESCRIPTION = {
    "nc": 2,
    "depth_multiple": 0.33,
    "width_multiple": 0.25,
    "anchors": ANCHORS,
    "ch": 3,
    "backbone": [
        [-1, 1, "Conv", [64, 6, 2, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 3, "C3", [64]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "SPPF", [128, 5]],
        [-1, 1, "Conv", [256, 3, 2]],
    ],
    "head": [
        [-1, 1, "Conv", [128, 1, 1]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 3, "C3", [128, False]],
        [[9, 5], 1, "Detect", ["nc", "anchors"]],
    ],
}


class Conv(nn.Module):
    def __init__(self, taken: int, given: int, k: int = 1, s: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(taken, given, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(given, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(width, width)
        self.cv2 = Conv(width, width, 3)
        self.add = shortcut

    def forward(self, x: Any) -> Any:
        found = self.cv2(self.cv1(x))
        return x + found if self.add else found


class C3(nn.Module):
    def __init__(self, taken: int, given: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = given // 2
        self.cv1, self.cv2, self.cv3 = Conv(taken, half), Conv(taken, half), Conv(2 * half, given)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(n)))

    def forward(self, x: Any) -> Any:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    def __init__(self, taken: int, given: int, k: int = 5) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(taken, taken // 2), Conv(taken // 2 * 4, given)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Any) -> Any:
        found = [self.cv1(x)]
        for _ in range(3):
            found.append(self.m(found[-1]))
        return self.cv2(torch.cat(found, 1))


class Concat(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.cat(x, 1)


class Detect(nn.Module):
    def __init__(self, classes: int, widths: list[int]) -> None:
        super().__init__()
        self.no, self.na = classes + 5, len(ANCHORS[0]) // 2
        self.stride = torch.tensor([8.0, 16.0])
        anchors = torch.tensor(ANCHORS).float().view(len(ANCHORS), -1, 2)
        self.register_buffer("anchors", anchors / self.stride.view(-1, 1, 1))
        self.m = nn.ModuleList(nn.Conv2d(width, self.no * self.na, 1) for width in widths)

    def forward(self, features: Any) -> Any:
        return torch.cat([self._decode(level, x) for level, x in enumerate(features)], 1)

    def _decode(self, level: int, x: Any) -> Any:
        """Go through anchors, rows and columns one by one, as slowly as the formula reads."""
        raw, stride = self.m[level](x).sigmoid()[0], float(self.stride[level])
        rows = []
        for anchor in range(self.na):
            values = raw[anchor * self.no : (anchor + 1) * self.no]
            for y in range(raw.shape[1]):
                for column in range(raw.shape[2]):
                    found = values[:, y, column].clone()
                    found[0] = (found[0] * 2 - 0.5 + column) * stride
                    found[1] = (found[1] * 2 - 0.5 + y) * stride
                    found[2:4] = (found[2:4] * 2) ** 2 * self.anchors[level, anchor] * stride
                    rows.append(found)
        return torch.stack(rows)[None]


class Segment(Detect):
    def __init__(self, classes: int, widths: list[int]) -> None:
        super().__init__(classes, widths)
        self.detect = Detect.forward


class DetectionModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yaml, self.names = DESCRIPTION, ["cat", "dog"]
        self.model = nn.Sequential(
            Conv(3, 16, 6, 2, 2), Conv(16, 16, 3, 2), C3(16, 16), Conv(16, 32, 3, 2), SPPF(32, 32),
            Conv(32, 64, 3, 2), Conv(64, 32), nn.Upsample(None, 2, "nearest"), Concat(), C3(64, 32, 1, False),
            Detect(2, [32, 64]),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        kept: list[Any] = []
        for layer in self.model[:-1]:
            given = [kept[7], kept[4]] if isinstance(layer, Concat) else x
            x = layer(given)
            kept.append(x)
        return self.model[-1]([kept[9], kept[5]])


class SegmentationModel(DetectionModel):
    pass


@contextlib.contextmanager
def _named_as_there() -> Iterator[None]:
    modules = {
        "models": [],
        "models.common": [Conv, Bottleneck, C3, SPPF, Concat],
        "models.yolo": [Detect, Segment, DetectionModel, SegmentationModel],
    }
    own = {}
    for name, classes in modules.items():
        sys.modules[name] = ModuleType(name)
        for one in classes:
            own[one] = one.__module__
            setattr(sys.modules[name], one.__name__, one)
            one.__module__ = name
    try:
        yield
    finally:
        for one, module in own.items():
            one.__module__ = module
        for name in modules:
            del sys.modules[name]


def make_model() -> Any:
    """Return a detector of random but seeded weights."""
    torch.manual_seed(5)
    model = DetectionModel()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model.eval()


def as_segmenter(model: Any) -> Any:
    """Return a segmenter, as far as what it is told by goes."""
    made = SegmentationModel()
    made.load_state_dict(model.state_dict())
    made.model[-1] = Segment(2, [32, 64])
    return made.eval()


def save(model: Any, path: Path, **options: Any) -> Path:
    """Write a checkpoint as the repository's trainer does."""
    with _named_as_there():
        kept = {"epoch": -1, "model": model, "ema": None, "optimizer": None, "opt": {"imgsz": 64}}
        torch.save(kept, path, **options)
    return path
