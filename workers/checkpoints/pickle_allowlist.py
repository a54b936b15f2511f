"""Allowlist of class and function names in checkpoints of vision models. None of them is ever run."""

from __future__ import annotations

import re

# Classes of layers, losses and settings. Their objects are only read.
_KNOWN_MODULES = re.compile(
    r"(torch\.nn\.modules|torch\.optim|torch\.amp|torch\.cuda\.amp|torchvision\.transforms"
    r"|ultralytics\.(nn|utils|models|cfg|yolo|engine)|models|utils)(\.[A-Za-z_][A-Za-z0-9_]*)*"
)
_CLASS = re.compile(r"(v[0-9]+)?[A-Z][A-Za-z0-9_]*")
# torch's data type of each storage class.
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_KNOWN = {
    "torch": STORAGES.keys() | set(STORAGES.values()) | {"Size", "device"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state"},
    "torch.nn.parameter": {"Parameter"},
    "collections": {"OrderedDict", "defaultdict"},
    "builtins": {"set", "dict", "list", "int", "float", "str"},
    "__builtin__": {"set", "dict", "list", "int", "float", "str"},
    "_codecs": {"encode"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},
    "datetime": {"datetime", "date", "timezone", "timedelta"},
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
}


def is_known(module: str, name: str) -> bool:
    """Return whether a checkpoint may contain this name."""
    if name in _KNOWN.get(module, ()):
        return True
    return _KNOWN_MODULES.fullmatch(module) is not None and _CLASS.fullmatch(name) is not None
