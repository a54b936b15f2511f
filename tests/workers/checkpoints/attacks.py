"""The hostile zoo: files that would do harm wherever they are loaded the usual way.

Those that run code would write the marker `MARKER`, or connect to `PORT`: a test looks for both.
"""

from __future__ import annotations

import itertools
import pickle
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tests.workers.checkpoints.attacks_on_formats import ARCHIVES, GRAPHS, SAFETENSORS
from tests.workers.checkpoints.weights_files import torch_bytes

# What runs code when Python's unpickler calls it.
_RUNNERS = {
    "os_system": ("posix", "system", ("touch {marker}",)),
    "os_popen": ("os", "popen", ("touch {marker}",)),
    "subprocess": ("subprocess", "Popen", (["touch", "{marker}"],)),
    "subprocess_output": ("subprocess", "check_output", (["touch", "{marker}"],)),
    "eval": ("builtins", "eval", ("open('{marker}', 'w')",)),
    "exec": ("builtins", "exec", ("open('{marker}', 'w')",)),
    "compile": ("builtins", "compile", ("1", "a", "eval")),
    "open": ("_io", "open", ("{marker}", "w")),
    "importlib": ("importlib", "import_module", ("this",)),
    "import": ("builtins", "__import__", ("this",)),
    "runpy": ("runpy", "_run_code", ("open('{marker}', 'w')", {})),
    "torch_hub": ("torch.hub", "load", ("owner/model", "model")),
    "torch_load": ("torch.serialization", "load", ("{marker}",)),
    "nested_pickle": ("torch.storage", "_load_from_bytes", (b"\x80\x02N.",)),
    "pickle_loads": ("_pickle", "loads", (b"cposix\nsystem\n(S'touch {marker}'\ntR.",)),
    "marshal": ("marshal", "loads", (b"N",)),
    "ctypes": ("ctypes", "CDLL", ("libc.so.6",)),
    "socket": ("socket", "create_connection", (("127.0.0.1", "{port}"),)),
    "urlopen": ("urllib.request", "urlopen", ("http://127.0.0.1:{port}/",)),
    "pty": ("pty", "spawn", ("touch {marker}",)),
    "timeit": ("timeit", "timeit", ("open('{marker}', 'w')",)),
    "profile": ("cProfile", "run", ("open('{marker}', 'w')",)),
    "getattr": ("builtins", "getattr", ("posix", "system")),
    "attrgetter": ("operator", "attrgetter", ("system",)),
    "methodcaller": ("operator", "methodcaller", ("system", "touch {marker}")),
    "partial": ("functools", "partial", ("touch {marker}",)),
    "copyreg": ("copyreg", "add_extension", ("posix", "system", 1)),
    "rmtree": ("shutil", "rmtree", ("{marker}",)),
    "lowercase_layer": ("torch.nn.modules.module", "_addindent", ("a", 1)),
    "lookalike": ("ultralytics.nn.tasks", "attempt_load_weights", ("{marker}",)),
    "lookalike_class": ("ultralyticsx.nn", "System", ("touch {marker}",)),
    "dotted_class": ("torch.nn.modules.linear", "os.system", ("touch {marker}",)),
}


def _global(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def _value(value: Any) -> bytes:
    """Return the opcodes of a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def _pickled(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


def _checkpoint(*opcodes: bytes, **options: Any) -> bytes:
    return torch_bytes(data=_pickled(*opcodes), **options)


def _calling(module: str, name: str, arguments: tuple[Any, ...], marker: str, port: int) -> bytes:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return (
                port if value == "{port}" else value.replace("{marker}", marker).replace("{port}", str(port))
            )
        if isinstance(value, (list, tuple)):
            return type(value)(fill(inner) for inner in value)
        return value

    return _checkpoint(_global(module, name), _value(fill(arguments)), b"R")


def _storage(kind: str = "FloatStorage", key: str = "0", count: int = 6, module: str = "torch") -> bytes:
    """Return the opcodes of a storage, of which the archive has 24 bytes."""
    return (
        b"(" + _value("storage") + _global(module, kind) + _value(key) + _value("cpu") + _value(count) + b"tQ"
    )


def _tensor(storage: bytes, offset: int = 0, shape: Any = (2, 3), stride: Any = (3, 1)) -> bytes:
    made = _global("torch._utils", "_rebuild_tensor_v2")
    rest = _value(False) + _global("collections", "OrderedDict") + b")R"
    return made + b"(" + storage + _value(offset) + _value(shape) + _value(stride) + rest + b"tR"


def _state_dict(made: bytes) -> bytes:
    return _checkpoint(b"}" + _value("w") + made + b"s")


_STUB = _global("torch.nn.modules.linear", "Linear") + b")\x81"


def _keys(keys: Iterable[bytes]) -> bytes:
    """Return a checkpoint of one dictionary, from the opcodes of its keys."""
    return _checkpoint(b"}(" + b"".join(key + b"N" for key in keys) + b"u")


def _memo_bomb() -> bytes:
    """Return thirty dictionaries, each with the one before ten times: 10 to the 30th entries when walked."""
    levels = b"}" + _value("w") + _tensor(_storage()) + b"sq\x00"
    for level in range(1, 30):
        inner = b"".join(_value(f"k{index}") + b"h" + bytes([level - 1]) for index in range(10))
        levels += b"0}(" + inner + b"uq" + bytes([level])
    return _checkpoint(levels)


def module_bomb() -> bytes:
    """Return a checkpoint of thirty modules, each with the one before ten times."""
    sequential = _global("torch.nn.modules.container", "Sequential")
    layers = sequential + b")\x81q\x00"
    for level in range(1, 30):
        inner = b"".join(_value(str(index)) + b"h" + bytes([level - 1]) for index in range(10))
        made = _global("ultralytics.nn.tasks", "DetectionModel") if level == 29 else sequential
        layers += b"0" + made + b")\x81}" + _value("_modules") + b"}(" + inner + b"usbq" + bytes([level])
    return _checkpoint(layers)


_PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "stack_global_from_memo": (
        lambda: torch_bytes(
            data=b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x02ls\x85R."
        ),
        "unsafe",
    ),
    "instance_opcode": (lambda: _checkpoint(b"(S'ls'\niposix\nsystem\n"), "pickle"),
    "object_opcode": (lambda: _checkpoint(b"(cposix\nsystem\nS'ls'\no"), "unsafe"),
    "extension_opcode": (lambda: _checkpoint(b"\x82\x01"), "pickle"),
    "text_opcodes": (lambda: _checkpoint(b"I1\n"), "pickle"),
    "call_of_a_stub": (lambda: _checkpoint(_STUB + b")R"), "pickle"),
    "call_of_a_text": (lambda: _checkpoint(_value("os.system") + b")R"), "pickle"),
    "arguments_by_name": (
        lambda: _checkpoint(_global("torch.nn.modules.linear", "Linear") + b")" + _value({"a": 1}) + b"\x92"),
        "pickle",
    ),
    "build_into_class": (
        lambda: _checkpoint(
            _global("torch.nn.modules.linear", "Linear") + _value({"__setstate__": 1}) + b"b"
        ),
        "pickle",
    ),
    "build_into_list": (lambda: _checkpoint(b"]" + _value((None, {"__class__": 1})) + b"b"), "pickle"),
    "build_twice": (lambda: _checkpoint(_STUB + _value({}) + b"b" + _value({}) + b"b"), "pickle"),
    "setstate_gadget": (
        lambda: _checkpoint(_STUB + b"}" + _value("__setstate__") + _global("posix", "system") + b"sb"),
        "unsafe",
    ),
    "reduce_in_a_module": (
        lambda: _checkpoint(
            b"}"
            + _value("model")
            + _global("ultralytics.nn.tasks", "DetectionModel")
            + b")\x81}"
            + _value("criterion")
            + _global("posix", "system")
            + _value(("ls",))
            + b"Rsbs"
        ),
        "unsafe",
    ),
    "numpy_objects": (
        lambda: _checkpoint(
            b"}"
            + _value("w")
            + _global("numpy.core.multiarray", "_reconstruct")
            + _value((1, 2))
            + b"R("
            + _value(1)
            + b"]"
            + _global("posix", "system")
            + _value(("ls",))
            + b"Ratbs"
        ),
        "unsafe",
    ),
    "persistent_text": (lambda: _checkpoint(_value("file:///etc/passwd") + b"Q"), "pickle"),
    "persistent_opcode": (lambda: _checkpoint(b"P/etc/passwd\n"), "pickle"),
    "persistent_call": (lambda: _state_dict(_tensor(_storage("system", module="posix"))), "unsafe"),
    "storage_that_is_none": (lambda: _state_dict(_tensor(_storage("Size"))), "dtype"),
    "storage_elsewhere": (lambda: _state_dict(_tensor(_storage(key="../version"))), "damaged"),
    "storage_lies": (lambda: _state_dict(_tensor(_storage(count=10**9))), "damaged"),
    "storage_negative": (lambda: _state_dict(_tensor(_storage(count=-1))), "dtype"),
    "tensor_too_large": (
        lambda: _state_dict(_tensor(_storage(), shape=(10**6, 10**6), stride=(10**6, 1))),
        "damaged",
    ),
    "tensor_repeats": (lambda: _state_dict(_tensor(_storage(), shape=(10**12,), stride=(0,))), "damaged"),
    "tensor_behind": (lambda: _state_dict(_tensor(_storage(), offset=1)), "damaged"),
    "offset_negative": (lambda: _state_dict(_tensor(_storage(), offset=-4)), "damaged"),
    "stride_negative": (lambda: _state_dict(_tensor(_storage(), stride=(-3, -1))), "damaged"),
    "stride_huge": (lambda: _state_dict(_tensor(_storage(), stride=(2**62, 1))), "damaged"),
    "shape_of_texts": (lambda: _state_dict(_tensor(_storage(), shape=("2", "3"))), "damaged"),
    "many_dimensions": (
        lambda: _state_dict(_tensor(_storage(), shape=(1,) * 64, stride=(1,) * 64)),
        "damaged",
    ),
    "memo_bomb": (_memo_bomb, "too_large"),
    "dup_bomb": (lambda: _checkpoint(b"]" + b"2a" * 1000), "pickle"),
    "marks": (lambda: _checkpoint(b"(" * 100_000), "too_large"),
    "stack": (lambda: _checkpoint(b"N" * 200_000), "too_large"),
    "deep_lists": (lambda: _checkpoint(b"]" * 150_000 + b"a" * 149_999), "too_large"),
    "deep_key": (lambda: _checkpoint(b"}" + b")" + b"\x85" * 90_000 + b"Ns"), "pickle"),
    # With one hash for all of them, each key is compared with all before it.
    "same_hash_numbers": (
        lambda: _keys(_value(sys.hash_info.modulus * number) for number in range(1, 30_000)),
        "pickle",
    ),
    "same_hash_tuples": (
        lambda: _keys(_value(parts) for parts in itertools.product((-1, -2), repeat=14)),
        "pickle",
    ),
    "deep_dictionaries": (
        lambda: _checkpoint(b"".join(b"}" + _value("a") for _ in range(50)) + b"}" + b"s" * 50),
        "too_large",
    ),
    "huge_number": (
        lambda: _checkpoint(b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000),
        "too_large",
    ),
    "huge_decimal": (lambda: _checkpoint(b"L" + b"9" * 1_000_000 + b"L\n"), "damaged"),
    "text_beyond_the_end": (
        lambda: torch_bytes(data=b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a."),
        "damaged",
    ),
    "no_end": (lambda: torch_bytes(data=b"\x80\x02}"), "damaged"),
    "more_behind": (lambda: torch_bytes(data=b"\x80\x02}.cposix\nsystem\n."), "damaged"),
    "empty_stack": (lambda: _checkpoint(b"R"), "damaged"),
    "unset_memo": (lambda: _checkpoint(b"h\x07"), "damaged"),
    "below_the_mark": (lambda: _checkpoint(b"N(\x85"), "damaged"),
    "new_protocol": (lambda: torch_bytes(data=b"\x80\x09N."), "pickle"),
}


def write_attacks(marker: str, port: int) -> dict[str, tuple[bytes, str]]:
    """Return each attack's file, and the code it must be refused with, by name."""
    found = {
        f"run_{name}": (_calling(module, called, arguments, marker, port), "unsafe")
        for name, (module, called, arguments) in _RUNNERS.items()
    }
    kinds = {"pickle": _PICKLES, "archive": ARCHIVES, "onnx": GRAPHS, "safetensors": SAFETENSORS}
    for kind, attacks in kinds.items():
        found |= {f"{kind}_{name}": (make(), code) for name, (make, code) in attacks.items()}
    return found
