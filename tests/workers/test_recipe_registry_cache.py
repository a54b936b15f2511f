"""Recipe, registry, cache and devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workers import devices, registry
from workers.cache import Cache
from workers.recipe import MOST_STEPS, Recipe, Step
from workers.renamed_parameters import RENAMED_PARAMETERS


def test_digest_does_not_depend_on_order() -> None:
    first = Recipe.single("ascii", {"columns": 80, "inverted": True})
    second = Recipe.single("ascii", {"inverted": True, "columns": 80})
    assert first.digest() == second.digest()
    assert len(first.digest()) == 64
    assert first.digest() != Recipe.single("ascii", {"columns": 81, "inverted": True}).digest()


def test_digest_depends_on_the_order_of_steps() -> None:
    one, two = Step(operation="ascii"), Step(operation="mosaic")
    assert Recipe(steps=(one, two)).digest() != Recipe(steps=(two, one)).digest()


def test_digest_is_the_same_in_another_process() -> None:
    script = "from workers.recipe import Recipe; print(Recipe.single('ascii', {'columns': 80}).digest())"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == Recipe.single("ascii", {"columns": 80}).digest()


def test_a_recipe_survives_json() -> None:
    recipe = Recipe.single("ascii", {"columns": 80, "characters": "custom", "custom": "é°"})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(recipe.model_dump(mode="json")).digest() == recipe.digest()


@pytest.mark.parametrize(
    "raw",
    [
        {"steps": []},
        {"steps": [{"operation": ""}]},
        {"steps": [{"operation": "a", "weights": 1}]},
        {"steps": [{"operation": "ascii"}] * (MOST_STEPS + 1)},
    ],
)
def test_an_invalid_recipe_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(raw)


def test_built_in_operations_are_found_basic_first() -> None:
    keys = [operation.key for operation in registry.all_operations()]
    assert keys[:2] == ["ascii", "blackwhite"]
    assert {"ascii", "blackwhite", "mosaic", "pixelart"} <= set(keys)


def test_each_invalid_parameter_has_its_own_message() -> None:
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate(
            "ascii", {"columns": "401", "characters": "runes", "inverted": "maybe", "size": 9.5}
        )
    assert caught.value.errors == {
        "columns": "Columns must be at most 400.",
        "characters": "Characters must be one of: Standard (10 characters), Dense (70 characters), "
        "Shaded blocks, Zeros and ones, Custom.",
        "inverted": "Invert must be yes or no.",
        "size": "Character size must be a whole number.",
    }
    assert caught.value.problems["columns"].template == "%(title)s must be at most %(le)s."


def test_auto_parameters_accept_form_strings_and_have_one_message() -> None:
    params: Any = registry.validate("yolo", {"line_width": "7", "image_size": "auto"})
    assert (params.line_width, params.image_size, params.line_pixels, params.input_side) == (7, "auto", 7, 0)
    assert registry.validate("onnx", {}).model_dump()["line_width"] == "auto"
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate("yolo", {"line_width": 0, "image_size": "2049"})
    assert caught.value.errors == {
        "line_width": "Line width must be at least 1, or “auto”.",
        "image_size": "Image size must be at most 2048, or “auto”.",
    }
    program = caught.value.problems["line_width"].for_programs
    assert program == "line_width (Line width) must be at least 1 px, or “auto”."


@pytest.mark.parametrize(
    ("operation", "old", "new"),
    [(key, old, new) for key, names in RENAMED_PARAMETERS.items() for old, new in names.items()],
)
def test_an_error_for_an_old_name_contains_the_new_name(operation: str, old: str, new: str) -> None:
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate(operation, {old: 1})
    message = f"There is no parameter “{old}”. It was renamed to “{new}”."
    assert caught.value.errors == {old: message}
    assert new in registry.get(operation).schema()["properties"]


def test_a_file_without_an_operation_is_rejected_at_startup() -> None:
    with pytest.raises(registry.RegistrationError, match="exactly one operation, not 0"):
        registry._read_plugin(sys.modules["workers.recipe"])


def test_cached_values_are_built_once() -> None:
    cache, builds = Cache(1000), []
    for _ in range(3):
        assert cache.get("a", lambda: builds.append(1) or "value", lambda _: 10) == "value"
    assert len(builds) == 1
    assert cache.used_bytes == 10


def test_the_least_recently_used_value_is_evicted_first() -> None:
    cache = Cache(30)
    for key in "abc":
        cache.get(key, lambda key=key: key, lambda _: 10)
    cache.get("a", str, lambda _: 10)
    cache.get("d", str, lambda _: 10)
    assert cache.used_bytes == 30
    assert [cache.get(key, lambda: "new", lambda _: 0) for key in "acd"] == ["a", "c", ""]
    assert cache.get("b", lambda: "new", lambda _: 0) == "new"


def test_a_smaller_limit_evicts_the_least_recently_used() -> None:
    cache = Cache(30)
    for key in "abc":
        cache.get(key, str, lambda _: 10)
    cache.resize(15)
    assert (cache.keys(), cache.used_bytes) == (["c"], 10)
    cache.get("d", str, lambda _: 10)
    assert cache.keys() == ["d"]


def test_a_value_larger_than_the_cache_is_not_cached() -> None:
    cache = Cache(5)
    cache.get("a", str, lambda _: 6)
    assert (len(cache), cache.used_bytes) == (0, 0)


def test_a_larger_weight_evicts_other_values() -> None:
    cache = Cache(30)
    for key in "abc":
        cache.get(key, lambda key=key: key, lambda _: 10)
    cache.weigh("a", 15)
    assert (cache.keys(), cache.used_bytes) == (["c", "a"], 25)
    # A value larger than the whole cache is evicted itself, and the others stay.
    cache.weigh("a", 99)
    assert (cache.keys(), cache.used_bytes) == (["c"], 10)
    cache.weigh("gone", 5)
    assert cache.used_bytes == 10


def test_a_device_has_a_name() -> None:
    device = devices.detect()
    assert device.kind in ("cpu", "gpu")
    assert device.name


def test_a_gpu_is_read_from_the_driver_s_files(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100\nIRQ: 7\n")
    assert devices._read_gpu_name(tmp_path) == "NVIDIA H100"
    assert devices._read_gpu_name(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("from typing import Optional\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("__version__ = '2.1'\ncuda = '12.6'\n", "12.6"),
        ("cuda: Optional[str] = None\n", None),
        ("debug = False\n", None),
    ],
)
def test_torch_s_build_is_read_from_its_files(text: str, build: str | None, tmp_path: Path) -> None:
    (tmp_path / "version.py").write_text(text)
    assert devices._read_cuda_build(tmp_path / "version.py") == build
    assert devices._read_cuda_build(tmp_path / "none.py") is None


def test_torch_s_build_equals_torch_version_cuda() -> None:
    code = (
        "import sys; from workers import devices; found = devices.find_cuda_build();"
        "assert 'torch' not in sys.modules; import torch; assert found == torch.version.cuda"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_data_limit_counts_written_memory_not_reserved_addresses() -> None:
    code = """
import mmap
from workers import devices
devices.limit_data(400_000_000)
mmap.mmap(-1, 2**33, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
try:
    bytearray(500_000_000)
except MemoryError:
    print("refused")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "refused\n"


def test_threads_are_pinned() -> None:
    environ: dict[str, str] = {}
    devices.pin_threads(environ)
    assert environ["OMP_NUM_THREADS"] == "1"
