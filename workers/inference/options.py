"""How ONNX Runtime is told to run a model: in one thread, and as the ONNX that was looked at."""

from __future__ import annotations

from typing import Any


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
    options.log_severity_level = severity
    return options
