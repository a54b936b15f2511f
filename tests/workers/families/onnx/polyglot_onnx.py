"""An ONNX file with a second model inside, which ONNX Runtime would run instead of the one that is seen.

It takes a file whose fifth to eighth bytes are "ORTM" for a flatbuffer, a format of its own. Such a file can
be a whole ONNX model as well: these bytes lie in a text, and the flatbuffer in another one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from tests.workers.checkpoints.weights_files import blob, number, varint

SIDE = 8
_ALIGNED = 16
# What a flatbuffer begins with is where its root lies. Here these are a version, 8, and the tag of the
# producer's name, written in two bytes where one would do; its length is the "O" that comes next.
_START = bytes([8, 8, 0x92, 0])
_REST_OF_NAME = ord("O") - len("RTM")


def disguise(folder: Path) -> bytes:
    """Return a model that multiplies by one, as all who read ONNX see it, and that hides a `FastGelu`."""
    return _wrap(_hidden(folder), _graph("Mul", "images", "one").SerializeToString())


def _graph(operator: str, *inputs: str, domain: str = "") -> Any:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 3, SIDE, SIDE]
    given, told = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "out")
    )
    one = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "one")
    node = helper.make_node(operator, list(inputs), ["out"], domain=domain)
    return helper.make_graph([node], "graph", [given], [told], [one] if "one" in inputs else [])


def _hidden(folder: Path) -> bytes:
    """Return a model with an operator that is not supported, as ONNX Runtime itself writes it."""
    import onnxruntime
    from onnx import helper

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = _graph("FastGelu", "images", domain="com.microsoft")
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "hidden.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return (folder / "hidden.ort").read_bytes()


def _wrap(hidden: bytes, graph: bytes) -> bytes:
    name = b"ORTM" + bytes(_REST_OF_NAME)
    fields = _START + name + blob(7, graph) + blob(8, blob(1, b""), number(2, 17))
    root = struct.unpack("<I", _START)[0]
    moved, start = _move_root(hidden, root)
    # A text (`doc_string`) that ends with the flatbuffer, behind as many zeros as it takes to be in place.
    length = next(
        size
        for size in (start - len(fields) - 1 - digits + len(moved) for digits in range(1, 6))
        if len(fields) + 1 + len(varint(size)) + size == start + len(moved)
    )
    return fields + varint(6 << 3 | 2) + varint(length) + bytes(length - len(moved)) + moved


def _move_root(hidden: bytes, root: int) -> tuple[bytes, int]:
    """Return the flatbuffer with a root table that lies at `root` of the file, and where it begins there.

    All it refers to lies behind it, at places that are counted from the reference.
    """
    old = struct.unpack_from("<I", hidden)[0]
    layout = old - struct.unpack_from("<i", hidden, old)[0]
    layout_size, table_size = struct.unpack_from("<HH", hidden, layout)
    places = struct.unpack_from(f"<{layout_size // 2 - 2}H", hidden, layout + 4)
    start = root - 4 * _ALIGNED
    body = -(-(root + table_size) // _ALIGNED) * _ALIGNED
    table = bytearray(table_size)
    struct.pack_into("<i", table, 0, root - start)
    for place in filter(None, places):
        target = old + place + struct.unpack_from("<I", hidden, old + place)[0]
        struct.pack_into("<I", table, place, body + target - (root + place))
    layout_bytes = hidden[layout : layout + layout_size].ljust(root - start, b"\0")
    return (layout_bytes + table).ljust(body - start, b"\0") + hidden, start
