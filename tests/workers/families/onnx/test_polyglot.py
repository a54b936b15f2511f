"""The ONNX file that is checked is the one that runs: ONNX Runtime gets the format explicitly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workers.families.onnx.polyglot_onnx import SIDE, disguise
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.export import run_onnx
from workers.inference.sessions import open_session

SHOWN = np.full((1, 3, SIDE, SIDE), 2, np.float32)


def test_a_model_behind_another_one(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    data = disguise(tmp_path)
    seen = onnx.load_model_from_string(data)
    assert [node.op_type for node in seen.graph.node] == ["Mul"]
    plain = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert plain.run(None, {"images": SHOWN})[0].max() < 1.96, "the disguise is none"

    assert open_session(data).run(SHOWN)[0].min() == 2
    assert run_onnx(data, SHOWN)[0].min() == 2
    (tmp_path / "upload.onnx").write_bytes(data)
    with pytest.raises(Refused, match="ONNX Runtime’s own format") as caught:
        open_upload(tmp_path / "upload.onnx")
    assert caught.value.code == "format"


def test_a_model_in_that_format(tmp_path: Path) -> None:
    disguise(tmp_path)
    with pytest.raises(Refused, match="Export it as ONNX"):
        open_upload(tmp_path / "hidden.ort")
