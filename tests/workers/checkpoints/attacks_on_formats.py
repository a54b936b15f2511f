"""Files that lie about their archive, their graph or their header. Each with the code it is refused with."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from tests.workers.checkpoints.weights_files import (
    blob,
    graph,
    legacy_torch_bytes,
    number,
    onnx_bytes,
    raw_safetensors,
    script_bytes,
    tensor,
    torch_bytes,
)


def _flagged(flags: int) -> bytes:
    """Return an archive whose first member claims to be, for example, encrypted."""
    data = bytearray(torch_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8 : entry + 10] = struct.pack("<H", flags)
    return bytes(data)


def _overlapping() -> bytes:
    """Return an archive in which two storages are the same bytes."""
    data = bytearray(torch_bytes())
    first = data.index(b"model/data/0", data.index(b"PK\x01\x02")) - 46
    second = data.index(b"model/data/1", first) - 46
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def _twice() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for content in (b"\x80\x02}.", b"\x80\x02cposix\nsystem\n."):
            info = zipfile.ZipInfo("model/data.pkl")
            archive.fp.seek(0, 2)  # type: ignore[union-attr]
            archive.NameToInfo.clear()
            archive.writestr(info, content)
    return target.getvalue()


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated": (lambda: torch_bytes()[:-40], "damaged"),
    "garbage_in_front": (lambda: b"PK\3\4" + bytes(100) + torch_bytes(), "damaged"),
    "encrypted": (lambda: _flagged(1), "damaged"),
    "bomb": (
        lambda: torch_bytes(extra={"data/9": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED),
        "damaged",
    ),
    "overlapping": (_overlapping, "damaged"),
    "name_twice": (_twice, "damaged"),
    "two_folders": (lambda: torch_bytes().replace(b"model/data/1", b"other/data/1"), "damaged"),
    "no_pickle": (lambda: torch_bytes().replace(b"data.pkl", b"data.pkx"), "damaged"),
    "torchscript": (lambda: torch_bytes(extra={"code/__torch__.py": b"import os"}), "code"),
    "torchscript_packed": (script_bytes, "code"),
    "cut_in_half": (lambda: torch_bytes()[: len(torch_bytes()) // 2], "damaged"),
    "big_endian": (lambda: torch_bytes(extra={"byteorder": b"big"}), "format"),
    "legacy": (legacy_torch_bytes, "legacy"),
    "bare_pickle": (lambda: b"\x80\x04cposix\nsystem\n.", "unsafe"),
    "text": (lambda: b"import os; os.system('ls')\n", "damaged"),
    "empty": (lambda: b"", "damaged"),
}


def _nested_ifs(depth: int) -> bytes:
    inner = graph(tensor(1, raw=bytes(4)))
    for _ in range(depth):
        attribute = blob(5, blob(1, b"then_branch"), blob(6, inner))
        inner = blob(1, blob(1, b"x"), blob(2, b"y"), blob(4, b"If"), attribute) + blob(12, b"")
    return _model(inner)


def _model(graph_bytes: bytes, extra: bytes = b"") -> bytes:
    return number(1, 8) + blob(7, graph_bytes) + blob(8, blob(1, b""), number(2, 17)) + extra


def _node(operator: str, *inputs: str, domain: str = "", attribute: bytes = b"") -> bytes:
    fed = b"".join(blob(1, name.encode()) for name in inputs)
    return blob(1, fed, blob(2, b"y"), blob(4, operator.encode()), attribute, blob(7, domain.encode()))


def _sizes(*values: int) -> bytes:
    """Return an initializer called `w` of whole numbers."""
    return blob(5, tensor(len(values), raw=struct.pack(f"<{len(values)}q", *values), kind=7))


GRAPHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "external_data": (
        lambda: onnx_bytes(
            tensor(2, 3) + number(14, 1) + blob(13, blob(1, b"location"), blob(2, b"/etc/passwd"))
        ),
        "external",
    ),
    "custom_operator": (lambda: _model(_node("Evil", "x", domain="evil.ops") + blob(12, b"")), "operators"),
    "contrib_operator": (
        lambda: _model(_node("Gelu", "x", domain="com.microsoft") + blob(12, b"")),
        "operators",
    ),
    "unknown_operator": (lambda: _model(_node("Shell", "x") + blob(12, b"")), "operators"),
    "endless_loop": (lambda: _model(_node("Loop", "x") + blob(12, b"")), "operators"),
    "own_functions": (lambda: onnx_bytes(extra=blob(25, blob(1, b"f"))), "operators"),
    "nested_graphs": (lambda: _nested_ifs(60), "operators"),
    "constant_bomb": (
        lambda: _model(_node("ConstantOfShape", "w") + _sizes(2**20, 2**20) + blob(12, b"")),
        "bomb",
    ),
    "expand_bomb": (lambda: _model(_node("Expand", "x", "w") + _sizes(2**40) + blob(12, b"")), "bomb"),
    "tile_bomb": (lambda: _model(_node("Tile", "x", "w") + _sizes(2**31, 2**31) + blob(12, b"")), "bomb"),
    "constant_node_bomb": (
        lambda: _model(
            blob(
                1,
                blob(2, b"s"),
                blob(4, b"Constant"),
                blob(5, blob(1, b"value"), blob(5, tensor(1, raw=struct.pack("<q", 2**50), kind=7))),
            )
            + _node("ConstantOfShape", "s")
            + blob(12, b"")
        ),
        "bomb",
    ),
    "sparse": (lambda: _model(graph(tensor(1, raw=bytes(4))) + blob(15, b"")), "operators"),
    "tensor_lies": (lambda: onnx_bytes(tensor(10**9, raw=bytes(4))), "damaged"),
    "cut_off": (lambda: onnx_bytes()[:-9], "damaged"),
}


def _header(**tensors: Any) -> bytes:
    return json.dumps(tensors).encode()


def _described(dtype: str = "F32", shape: Any = (2, 3), begin: int = 0, end: int = 24) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pickle_inside": (lambda: b"\x80\x04\x95" + bytes(40), "unsafe"),
    "header_lies": (lambda: raw_safetensors(b"{}", length=2**40), "damaged"),
    "header_huge": (lambda: raw_safetensors(b"{" + b" " * 5_000_000 + b"}"), "damaged"),
    "header_deep": (lambda: raw_safetensors(b'{"a":' + b"[" * 1_000_000), "damaged"),
    "overlap": (lambda: raw_safetensors(_header(a=_described(), b=_described()), bytes(24)), "damaged"),
    "gap": (lambda: raw_safetensors(_header(a=_described(begin=8, end=32)), bytes(32)), "damaged"),
    "dtype_lies": (lambda: raw_safetensors(_header(a=_described("F64")), bytes(24)), "damaged"),
    "dtype_strange": (lambda: raw_safetensors(_header(a=_described("C64", (3,))), bytes(24)), "dtype"),
    "shape_negative": (lambda: raw_safetensors(_header(a=_described(shape=(-2, -3))), bytes(24)), "damaged"),
    "name_twice": (
        lambda: raw_safetensors(b'{"a":' + json.dumps(_described()).encode() + b',"a":1}', bytes(24)),
        "damaged",
    ),
    "beyond": (
        lambda: raw_safetensors(_header(a=_described(shape=(10**6,), end=4 * 10**6)), bytes(24)),
        "damaged",
    ),
}
