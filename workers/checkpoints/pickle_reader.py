"""Safe pickle reader: it interprets the opcodes without importing or calling anything.

Python's unpickler imports and calls whatever a file names. Here a name stays a `Name`, a call becomes a
`Stub` with its arguments, and only tensors and plain containers become values. Names that no checkpoint needs
are refused anyway, because such a file would run them in Python's unpickler.
Opcodes: Lib/pickletools.py of Python.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.checkpoints.pickle_allowlist import is_known
from workers.checkpoints.tensors import Storage, record_tensor
from workers.checkpoints.upload import Refused, show

MOST_BYTES = 32 * 1024 * 1024
PICKLE_TOO_LARGE = f"Its pickle is larger than {MOST_BYTES >> 20} MiB."
MOST_OPCODES = 3_000_000
MOST_STACK = 100_000
MOST_MARKS = 500
MOST_INT_BITS = 512
# Larger integers can have equal hashes, because their hash is a remainder.
_MOST_KEY = sys.hash_info.modulus // 2
_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Opcodes with their value as argument.
_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING",
})  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
# Segmenters of the older yolov5 repository pickle a method, and so name getattr. They get their own error.
_GETATTR, _OLD_SEGMENTER = ".getattr", b"models.yolo\nSegmentationModel\n"
ONLY_DETECTORS = (
    "Only detectors of the older yolov5 repository are supported. Train the model again with Ultralytics."
)


@dataclass(frozen=True)
class Name:
    """A qualified name in the file. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Stub:
    """An object of the file that was not created: its class, arguments, state and items."""

    __slots__ = ("args", "entries", "items", "name", "state")

    def __init__(self, name: Name, args: tuple[Any, ...]) -> None:
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the object, or `default`."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(data: bytes, storage_of: Callable[[Any], Storage]) -> Any:
    """Return the content of a pickle as inert data.

    Args:
        storage_of: returns the storage of a persistent id, or raises Refused.

    Raises:
        Refused: it is damaged, exceeds a limit, or contains a name that is not on the allowlist.
    """
    if len(data) > MOST_BYTES:
        raise Refused(PICKLE_TOO_LARGE, code="too_large")
    try:
        return _Machine(storage_of).run(data)
    except Refused as error:
        if _GETATTR in error.message and _OLD_SEGMENTER in data:
            raise Refused(ONLY_DETECTORS, code="architecture") from error
        raise


class _Machine:
    def __init__(self, storage_of: Callable[[Any], Storage]) -> None:
        self._storage_of = storage_of
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            name.removeprefix("_on_").upper(): getattr(self, name) for name in _STEPS
        }

    def run(self, data: bytes) -> Any:
        try:
            for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
                if count > MOST_OPCODES or len(self._stack) > MOST_STACK or len(self._marks) > MOST_MARKS:
                    raise Refused("Its pickle has too many opcodes, or too many levels.", code="too_large")
                if opcode.name == "STOP":
                    return self._finish((position or 0) + 1 == len(data))
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise Refused("Its pickle is damaged.", code="damaged") from error
        raise Refused("Its pickle does not end.", code="damaged")

    def _finish(self, is_whole: bool) -> Any:
        if not is_whole or len(self._stack) != 1 or self._marks:
            raise Refused("There is data after the end of its pickle.", code="damaged")
        return self._stack[0]

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self._stack.append(_bounded(argument))
        elif opcode in _PUSHED:
            self._stack.append(_PUSHED[opcode])
        elif opcode in _EMPTY:
            self._stack.append(_EMPTY[opcode]())
        elif opcode in self._steps:
            self._steps[opcode](argument)
        else:
            raise Refused(f"Its pickle uses the opcode {opcode}, which is not supported.", code="pickle")

    # --- The stack and the memo.

    def _pop(self) -> Any:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError("nothing above the mark")
        return self._stack.pop()

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _top(self) -> Any:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError("nothing above the mark")
        return self._stack[-1]

    def _on_proto(self, argument: int) -> None:
        if not 2 <= argument <= 5:
            raise Refused(f"Its pickle has protocol {argument}, not one of 2 to 5.", code="pickle")

    def _on_frame(self, argument: int) -> None:
        pass

    def _on_mark(self, argument: None) -> None:
        self._marks.append(len(self._stack))

    def _on_pop(self, argument: None) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._stack.pop()

    def _on_pop_mark(self, argument: None) -> None:
        self._pop_mark()

    def _on_binput(self, argument: int) -> None:
        self._memo[argument] = self._top()

    _on_long_binput = _on_binput

    def _on_memoize(self, argument: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _on_binget(self, argument: int) -> None:
        self._stack.append(self._memo[argument])

    _on_long_binget = _on_binget

    # --- Containers.

    def _on_tuple(self, argument: None) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _on_tuple1(self, argument: None) -> None:
        self._stack.append((self._pop(),))

    def _on_tuple2(self, argument: None) -> None:
        second, first = self._pop(), self._pop()
        self._stack.append((first, second))

    def _on_tuple3(self, argument: None) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, second, third))

    def _on_append(self, argument: None) -> None:
        value = self._pop()
        self._add_items([value])

    def _on_appends(self, argument: None) -> None:
        self._add_items(self._pop_mark())

    def _add_items(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Stub):
            target.items += values
        elif isinstance(target, list):
            target += values
        else:
            raise TypeError("nothing to append to")

    def _on_setitem(self, argument: None) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _on_setitems(self, argument: None) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, flat: list[Any]) -> None:
        target = self._top()
        found = target.entries if isinstance(target, Stub) else target
        if not isinstance(found, dict) or len(flat) % 2:
            raise TypeError("nothing to set items of")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            found[_key(key)] = value

    def _on_additems(self, argument: None) -> None:
        values, target = self._pop_mark(), self._top()
        if not isinstance(target, set):
            raise TypeError("nothing to add to")
        target.update(map(_key, values))

    def _on_frozenset(self, argument: None) -> None:
        self._stack.append(frozenset(map(_key, self._pop_mark())))

    # --- Imports, calls and object states.

    def _on_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_known(module, name))

    def _on_stack_global(self, argument: None) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name must be a string")
        self._stack.append(_known(module, name))

    def _on_binpersid(self, argument: None) -> None:
        self._stack.append(self._storage_of(self._pop()))

    def _on_reduce(self, argument: None) -> None:
        args, called = self._pop(), self._pop()
        self._stack.append(_call(called, args))

    _on_newobj = _on_reduce

    def _on_newobj_ex(self, argument: None) -> None:
        named, args, called = self._pop(), self._pop(), self._pop()
        if not isinstance(named, dict) or named:
            raise Refused("Its pickle creates an object with keyword arguments.", code="pickle")
        self._stack.append(_call(called, args))

    def _on_build(self, argument: None) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Stub) and target.state is None:
            target.state = state
        elif not isinstance(target, dict):
            # The attributes of an OrderedDict (`_metadata` of a state dict) are not needed.
            raise Refused("Its pickle sets the state of a value that is not an object.", code="pickle")


_STEPS = tuple(name for name in vars(_Machine) if name.startswith("_on_"))


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MOST_INT_BITS:
        raise Refused(f"Its pickle has an integer of more than {MOST_INT_BITS} bits.", code="too_large")
    return value


def _known(module: str, name: str) -> Name:
    if not is_known(module, name):
        shown = show(f"{module}.{name}", 80)
        text = (
            f"This file contains {shown}, which could run code when it is loaded in PyTorch. Save only the "
            "state dict, or export the model as ONNX."
        )
        raise Refused(text, code="unsafe")
    return Name(module, name)


def _key(key: Any) -> Any:
    """Return a dictionary key. Raises Refused for nested keys and large integers.

    Hashing deeply nested keys can overflow the interpreter's stack. Large integers allow many keys with the
    same hash, which makes dictionaries slow. Hashes of strings are random in each process.
    """
    if isinstance(key, (int, float)):
        is_good = abs(key) < _MOST_KEY or not isinstance(key, int)
    elif isinstance(key, tuple):
        is_good = all(part is None or isinstance(part, (str, bytes)) for part in key)
    else:
        is_good = key is None or isinstance(key, (str, bytes))
    if not is_good:
        raise Refused("Its pickle has a dictionary key that is not supported.", code="pickle")
    return key


def _call(called: Any, args: Any) -> Any:
    if not isinstance(called, Name) or not isinstance(args, tuple):
        raise Refused("Its pickle calls a value that is not a class or function.", code="pickle")
    make = _CALLS.get((called.module, called.name))
    return make(*args) if make else Stub(called, args)


def _make_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> Any:
    return record_tensor(storage, offset, shape, stride)


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _make_dict() -> dict[Any, Any]:
    return {}


def _make_default_dict(_factory: Any = None) -> dict[Any, Any]:
    return {}


def _make_shape(sizes: Any) -> tuple[Any, ...]:
    """Return a torch.Size as a tuple. Other iterables are refused, because they may have no end."""
    if not isinstance(sizes, tuple):
        raise TypeError("a shape must be a tuple")
    return sizes


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("collections", "OrderedDict"): _make_dict,
    ("collections", "defaultdict"): _make_default_dict,
    ("torch", "Size"): _make_shape,
}
