"""Small files of weights, built here byte by byte as the formats say."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from typing import Any


def safetensors_bytes(**metadata: str) -> bytes:
    """Return a file of two tensors."""
    tensors = {"w": ("F32", [2, 3], bytes(24)), "b": ("F16", [3], bytes(6))}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return raw_safetensors(json.dumps(header).encode(), data)


def raw_safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def torch_bytes(
    root: str = "model", extra: dict[str, bytes] | None = None, *, data: bytes | None = None, **options: Any
) -> bytes:
    """Return an archive laid out as PyTorch does. Its pickle is harmless, and never loaded anyway."""
    members = {"data.pkl": pickle.dumps({"w": 1}, 2) if data is None else data}
    members |= {"version": b"3\n", "data/0": bytes(24), "data/1": bytes(6), **(extra or {})}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
    return target.getvalue()


def safetensors_with_a_header_of(length: int) -> bytes:
    """Return a file of two tensors whose header is padded to this many bytes."""
    made = safetensors_bytes()
    size = struct.unpack("<Q", made[:8])[0]
    return raw_safetensors(made[8 : 8 + size].ljust(length), made[8 + size :])


def script_bytes() -> bytes:
    """Return an archive laid out as `torch.jit.save` does: tensors as they are, code packed."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data/0", bytes(24))
        archive.writestr("archive/data.pkl", pickle.dumps({"w": 1}, 2))
        code = b"class Sequential(Module):\n  __parameters__ = []\n" * 20
        archive.writestr("archive/code/__torch__/container.py", code, zipfile.ZIP_DEFLATED)
        archive.writestr("archive/constants.pkl", pickle.dumps((), 2))
        archive.writestr("archive/version", b"3\n")
    return target.getvalue()


def legacy_torch_bytes() -> bytes:
    """Return how a checkpoint of PyTorch before 1.6 begins."""
    magic, system = 0x1950A86A20F9469CFC6C, {"protocol_version": 1001, "little_endian": True}
    return b"".join(pickle.dumps(part, 2) for part in (magic, 1001, system, {"w": 1}))


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def blob(field: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def tensor(*dims: int, raw: bytes | None = None, packed: bool = False, kind: int = 1) -> bytes:
    """Return a TensorProto of floats, unless `kind` says another type."""
    sizes = blob(1, *map(varint, dims)) if packed else b"".join(number(1, size) for size in dims)
    return sizes + number(2, kind) + (blob(9, raw) if raw is not None else b"") + blob(8, b"w")


def graph(*initializers: bytes) -> bytes:
    node = blob(1, blob(1, b"x"), blob(2, b"y"), blob(4, b"Relu"))
    return (
        node + blob(2, b"g") + b"".join(blob(5, one) for one in initializers) + blob(11, b"") + blob(12, b"")
    )


def onnx_bytes(*initializers: bytes, extra: bytes = b"", opset: int = 17) -> bytes:
    """Return a model of one node."""
    found = initializers or (tensor(2, 3, raw=bytes(24)), tensor(4, packed=True, raw=bytes(16)))
    return (
        number(1, 8)
        + blob(2, b"pytorch")
        + blob(3, b"2.13")
        + blob(7, graph(*found))
        + blob(8, blob(1, b""), number(2, opset))
        + extra
    )
