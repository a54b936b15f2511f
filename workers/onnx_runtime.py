"""ONNX Runtime: session options, telemetry switched off, and its error messages."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Otherwise ONNX Runtime stores events in the home folder and tries to send them. It reads this variable at
# import, which happens inside functions only.
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}
os.environ.update(NO_TELEMETRY)

# Its messages start with a number, a kind, and the source file and line of the error.
_KIND = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PLACE = re.compile(r"/\S+\.(cc|h):\d+ .*?\) ")
# Messages of ONNX Runtime, its kernels and the C++ library for exhausted memory or impossible sizes.
_NO_MEMORY = re.compile(
    r"bad_alloc|bad_array_new_length|bad allocation|(failed|unable|could not|cannot|can't) (to )?allocate"
    r"|memory allocation failed|available memory of \d+ is smaller|out of memory|insufficient memory"
    r"|larger than max_size|overflow|shape\.size\(\) must be >= ?0|exceed int64|may be too large",
    re.IGNORECASE,
)


def make_options(*, severity: int = 3) -> Any:
    """Return the options of a session.

    Args:
        severity: least severe messages that ONNX Runtime logs to standard error: 3 errors, 4 fatal errors.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A slot is a process with one core: more threads compete for it, and spinning threads waste it.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Otherwise four bytes decide the format, and a file could contain another graph than the checked one.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Integer kernels for quantized layers round differently than the graph specifies.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = severity
    return options


def open_runtime_session(data: bytes, *, keeps_memory: bool) -> Any:
    """Return an ONNX Runtime session of an ONNX file, on the CPU and on one thread.

    Args:
        keeps_memory: whether memory of the largest run stays allocated, which makes short runs faster.

    Raises: any exception of ONNX Runtime.
    """
    import onnxruntime

    # Errors are raised, so they are not logged too.
    options = make_options(severity=4)
    options.enable_cpu_mem_arena = keeps_memory
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means exhausted memory. ONNX Runtime has no exception type for it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return _NO_MEMORY.search(str(error)) is not None


@contextmanager
def raise_memory_errors() -> Iterator[None]:
    """Turn ONNX Runtime's errors for exhausted memory into MemoryError."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise


def explain(error: Exception, most: int) -> str:
    """Return the message of an ONNX Runtime exception without its prefix, at most `most` characters."""
    message = str(error).split("\n", 1)[0]
    return _PLACE.sub("", _KIND.sub("", message))[:most]
