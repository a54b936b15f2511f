"""The example operation in CONTRIBUTING.md works unchanged."""

import importlib.util
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.pictures import picture_bytes
from workers import engine, registry
from workers.plugin import Operation
from workers.recipe import Recipe

CONTRIBUTING = Path(__file__).resolve().parents[3] / "CONTRIBUTING.md"


@pytest.fixture
def example(tmp_path: Path) -> ModuleType:
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), flags=re.DOTALL)
    path = tmp_path / "posterise.py"
    path.write_text(blocks[0])
    spec = importlib.util.spec_from_file_location("posterise", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look up modules by name.
    sys.modules["posterise"] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_registers_validates_and_runs(example: ModuleType) -> None:
    operation: Operation = example.Posterise()
    with registry.register(operation):
        made = engine.run(Recipe.single("posterise", {"bits": "1"}), picture_bytes())
        with pytest.raises(registry.ParamsInvalid, match="Bits must be at most 7"):
            registry.validate("posterise", {"bits": 8})
    assert made.files[0].suffix == ".png"
    values = np.unique(np.asarray(Image.open(io.BytesIO(made.files[0].data)).convert("RGB")))
    assert set(values.tolist()) <= {0, 128}
