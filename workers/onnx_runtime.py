"""How ONNX Runtime is told to run a model, and what it tells where it cannot."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Else it keeps a database of events in the home folder and tries to send them. It looks when it is loaded,
# which happens in functions alone.
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}
os.environ.update(NO_TELEMETRY)

# Before what is wrong its messages have a number, a kind, and where in its source that was found out.
_KIND = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PLACE = re.compile(r"/\S+\.(cc|h):\d+ .*?\) ")
# How it, its kernels and the C++ library say that memory ran out, or that a size is beyond all memory.
_NO_MEMORY = re.compile(
    r"bad_alloc|bad_array_new_length|bad allocation|(failed|unable|could not|cannot|can't) (to )?allocate"
    r"|memory allocation failed|available memory of \d+ is smaller|out of memory|insufficient memory"
    r"|larger than max_size|overflow|shape\.size\(\) must be >= ?0|exceed int64|may be too large",
    re.IGNORECASE,
)


def make_options(*, severity: int = 3) -> Any:
    """Return the options of a session.

    Args:
        severity: of what ONNX Runtime writes to standard error: 3 for errors, 4 for its end.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A slot is a process with one core: more threads would fight over it, and spinning ones waste it.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Else it goes by four bytes, behind which a file could hide another graph than the one that was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Integer kernels in the place of quantised layers round otherwise than the graph says.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = severity
    return options


def open_runtime_session(data: bytes, *, keeps_memory: bool) -> Any:
    """Return ONNX Runtime's session of an ONNX file, on the processor and in this thread alone.

    Args:
        keeps_memory: whether the largest run's memory is kept for the next, which saves time where runs are
            short.

    Raises: what ONNX Runtime does.
    """
    import onnxruntime

    # What goes wrong is raised, and need not be written to the log too.
    options = make_options(severity=4)
    options.enable_cpu_mem_arena = keeps_memory
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether there was no memory left: ONNX Runtime has no exception of its own for that."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return _NO_MEMORY.search(str(error)) is not None


@contextmanager
def telling_of_memory() -> Iterator[None]:
    """Raise MemoryError where ONNX Runtime has no memory left."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise


def explain(error: Exception, most: int) -> str:
    """Return what an exception of ONNX Runtime says is wrong, in at most so many characters."""
    said = str(error).split("\n", 1)[0]
    return _PLACE.sub("", _KIND.sub("", said))[:most]
