"""Vision Transformers of Hugging Face: conversion, runs, and refusal of wrong configs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tests.workers.families.gan.layers import upload_of
from tests.workers.media.samples import decode, draw, encode, kinds
from workers import bundle, engine, registry
from workers.bundle import FolderModel
from workers.checkpoints.upload import Refused
from workers.families.vit import convert
from workers.inference.sessions import open_session
from workers.plugin import Context
from workers.recipe import Recipe
from workers.sandbox import run

VIT = registry.get("vit")
WIDTH, INNER, PATCH, ACROSS, LAYERS, CLASSES = 32, 48, 8, 4, 2, 6
SIDE = PATCH * ACROSS
CONFIG: dict[str, Any] = {
    "architectures": ["ViTForImageClassification"],
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "intermediate_size": INNER,
    "image_size": SIDE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
    "id2label": {str(number): name for number, name in enumerate(["ant", "bee", "cat", "dog", "elk", "fox"])},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
}
KINDS = kinds()


def _draw_state(*, bias: bool = True) -> dict[str, Tensor]:
    """The tensors of a classifier, under the names that Transformers saves them by."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int, scale: float = 1.0, around: float = 0.0) -> Tensor:
        return around + scale * torch.randn(*shape, generator=generator)

    state: dict[str, Tensor] = {}

    def linear(name: str, outer: int, inner: int, *, with_bias: bool = True) -> None:
        state[f"{name}.weight"] = normal(outer, inner, scale=1.5 / math.sqrt(inner))
        if with_bias:
            state[f"{name}.bias"] = normal(outer, scale=0.2)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = normal(WIDTH, scale=0.2, around=1.0)
        state[f"{name}.bias"] = normal(WIDTH, scale=0.2)

    state["vit.embeddings.cls_token"] = normal(1, 1, WIDTH)
    state["vit.embeddings.position_embeddings"] = normal(1, ACROSS**2 + 1, WIDTH)
    projection = "vit.embeddings.patch_embeddings.projection"
    state[f"{projection}.weight"] = normal(WIDTH, 3, PATCH, PATCH, scale=0.1)
    state[f"{projection}.bias"] = normal(WIDTH, scale=0.2)
    for layer in range(LAYERS):
        name = f"vit.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.attention.{part}", WIDTH, WIDTH, with_bias=bias)
        linear(f"{name}.attention.output.dense", WIDTH, WIDTH)
        linear(f"{name}.intermediate.dense", INNER, WIDTH)
        linear(f"{name}.output.dense", WIDTH, INNER)
        norm(f"{name}.layernorm_before")
        norm(f"{name}.layernorm_after")
    norm("vit.layernorm")
    linear("classifier", CLASSES, WIDTH)
    return state


def _forward(s: dict[str, Tensor], pixels: Tensor, heads: int, epsilon: float) -> Tensor:
    """What the layers of a ViT give, written out without a module: logits."""

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"], epsilon)

    # Patches by hand: each becomes one row, channels first, and is multiplied with the projection.
    projection = s["vit.embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    patches = functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)
    x = patches @ projection.T + s["vit.embeddings.patch_embeddings.projection.bias"]
    x = torch.cat([s["vit.embeddings.cls_token"].repeat(len(x), 1, 1), x], 1)
    x = x + s["vit.embeddings.position_embeddings"]
    for layer in range(LAYERS):
        name = f"vit.encoder.layer.{layer}"
        y = norm(f"{name}.layernorm_before", x)
        split = [
            linear(f"{name}.attention.attention.{part}", y).reshape(len(x), -1, heads, WIDTH // heads)
            for part in ("query", "key", "value")
        ]
        query, key, value = (part.transpose(1, 2) for part in split)
        read = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
        x = x + linear(f"{name}.attention.output.dense", read)
        y = functional.gelu(linear(f"{name}.intermediate.dense", norm(f"{name}.layernorm_after", x)))
        x = x + linear(f"{name}.output.dense", y)
    return linear("classifier", norm("vit.layernorm", x)[:, 0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FolderModel:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("vit")
    bundle.write(VIT.convert(upload_of(_draw_state(), config=CONFIG)), folder)
    return FolderModel(folder)


def _run(model: FolderModel, data: bytes, **params: Any) -> engine.RecipeResult:
    recipe = Recipe.single("vit", params, weights=model.key)
    return engine.run(recipe, data, Context(models={model.key: model}))


# --- Conversion.


def test_it_is_recognised_and_gives_what_its_layers_give(model: FolderModel) -> None:
    state = _draw_state()
    assert VIT.recognize(upload_of(state)) == "Vision Transformer, patches of 8 × 8"
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    expected = _forward(state, pixels, heads=4, epsilon=1e-6).softmax(-1).numpy()
    got = open_session(model.read("model.onnx")).run(pixels.numpy())[0]
    assert expected.std() > 0.05
    assert np.abs(got - expected).max() < 1e-5
    rebuilt = convert.build(model.facts["architecture"]["settings"], state)
    assert np.abs(rebuilt(pixels).numpy() - expected).max() < 1e-5


def test_its_facts_are_those_of_weights_and_config(model: FolderModel) -> None:
    facts = model.facts
    assert facts["classes"] == ["ant", "bee", "cat", "dog", "elk", "fox"]
    assert facts["input"] == {"width": SIDE, "height": SIDE, "channels": 3}
    assert (facts["family"], facts["task"], facts["layout"]) == ("vit", "classify", "probabilities")
    assert (facts["mean"], facts["std"]) == ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    assert (facts["stretch"], facts["assumed"]) == (True, [])
    assert facts["parameters"] == sum(tensor.numel() for tensor in _draw_state().values())
    rows = ACROSS**2 + 1
    layer = rows * (4 * WIDTH**2 + 2 * WIDTH * INNER) + 2 * rows**2 * WIDTH
    assert facts["flops"] == 2 * (LAYERS * layer + (rows - 1) * 3 * PATCH**2 * WIDTH + WIDTH * CLASSES)
    assert facts["difference"] <= facts["tolerance"] == 1e-4


def test_without_a_config_the_usual_is_taken() -> None:
    state = _draw_state(bias=False)
    made = VIT.convert(upload_of(state))
    assert made.facts["classes"] == [f"class {number}" for number in range(CLASSES)]
    assert made.facts["mean"] == made.facts["std"] == [0.5, 0.5, 0.5]
    assert made.facts["assumed"] == ["mean", "std"]
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    # Heads of 64 do not fit into a width of 32: then there is one.
    expected = _forward(state, pixels, heads=1, epsilon=1e-12).softmax(-1).numpy()
    assert np.abs(open_session(made.onnx).run(pixels.numpy())[0] - expected).max() < 1e-5


def test_the_names_of_transformers_5_are_read() -> None:
    """Who saves a state dict there gets names that its own files do not have."""
    later = {
        "encoder.layer": "layers",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    state, renamed = _draw_state(), {}
    for name, tensor in state.items():
        for before, after in later.items():
            name = name.replace(before, after)
        renamed[f"model.{name}"] = tensor
    assert "model.vit.layers.1.mlp.fc2.bias" in renamed
    assert "model.vit.layers.1.attention.o_proj.bias" in renamed
    assert VIT.recognize(upload_of(renamed)) == "Vision Transformer, patches of 8 × 8"
    made = VIT.convert(upload_of(renamed, config=CONFIG))
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    expected = _forward(state, pixels, heads=4, epsilon=1e-6).softmax(-1).numpy()
    assert np.abs(open_session(made.onnx).run(pixels.numpy())[0] - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "activate"),
    [
        ("gelu_new", lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
        ("relu", torch.relu),
    ],
)
def test_other_activations_are_known(name: str, activate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _draw_state()
    made = VIT.convert(upload_of(state, config={**CONFIG, "hidden_act": name}))
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    plain = _forward(state, pixels, heads=4, epsilon=1e-6).softmax(-1).numpy()
    got = open_session(made.onnx).run(pixels.numpy())[0]
    monkeypatch.setattr(functional, "gelu", activate)
    assert np.abs(got - _forward(state, pixels, heads=4, epsilon=1e-6).softmax(-1).numpy()).max() < 1e-5
    assert np.abs(got - plain).max() > 3e-5


def test_a_saved_folder_of_transformers_becomes_a_model_in_the_sandbox(tmp_path: Path) -> None:
    pooler = {
        "vit.pooler.dense.weight": torch.zeros(WIDTH, WIDTH),
        "vit.pooler.dense.bias": torch.zeros(WIDTH),
    }
    save_file({**_draw_state(), **pooler}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    saved, out = tmp_path / "model.safetensors", tmp_path / "out"
    report = run.convert(saved, out, config=tmp_path / "config.json")
    assert report.ok, report.sentence
    assert (report.family, report.title) == ("vit", "Vision Transformer, patches of 8 × 8")
    facts = FolderModel(out).facts
    assert facts["classes"][5] == "fox"
    assert facts["parameters"] == sum(tensor.numel() for tensor in _draw_state().values())


# --- Refused weights.


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": 64}, "has hidden_size = 64, but the weights have 32"),
        ({"image_size": 224}, "has image_size = 224, but the weights have 32"),
        ({"num_hidden_layers": 12}, "has num_hidden_layers = 12, but the weights have 2"),
        ({"num_attention_heads": 5}, "must divide the width"),
        ({"num_attention_heads": "4"}, "must divide the width"),
        ({"num_attention_heads": 0}, "must divide the width"),
        ({"hidden_act": "__import__('os')"}, "of the config.json is not supported"),
        ({"layer_norm_eps": "small"}, "is not between 0 and 1"),
        ({"id2label": {"0": "ant"}}, "does not name the 6 classes"),
        ({"id2label": ["ant"]}, "does not name the 6 classes"),
        ({"id2label": {str(number): "" for number in range(6)}}, "empty or not a string"),
        ({"id2label": {str(number): None for number in range(6)}}, "the name of a class is not a string"),
        ({"image_mean": [0.5]}, "image_mean of the config.json must be 3 numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std of the config.json contains 0"),
        ({"image_std": "wide"}, "image_std of the config.json must be 3 numbers"),
    ],
)
def test_a_config_of_other_weights_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as caught:
        VIT.convert(upload_of(_draw_state(), config={**CONFIG, **changes}))
    assert caught.value.code == "config"


def test_what_fits_no_classifier_is_refused() -> None:
    state = _draw_state()
    positions = "vit.embeddings.position_embeddings"
    with pytest.raises(Refused, match="not those of a square image"):
        VIT.convert(upload_of({**state, positions: torch.zeros(1, 12, WIDTH)}))
    with pytest.raises(Refused, match="not those of a classifier"):
        VIT.convert(upload_of({**state, positions: torch.zeros(1)}))
    missing = {name: tensor for name, tensor in state.items() if "layer.1.output" not in name}
    with pytest.raises(Refused, match=r"lacks tensors .*layer\.1\.output\.dense\.bias"):
        VIT.convert(upload_of(missing))
    with pytest.raises(Refused, match="contains NaN or infinity"):
        VIT.convert(upload_of({**state, "classifier.bias": torch.full((CLASSES,), float("inf"))}))
    with pytest.raises(Refused, match="not a Vision Transformer classifier"):
        VIT.convert(upload_of({"fc.weight": torch.zeros(2, 2)}))
    assert VIT.recognize(upload_of({"fc.weight": torch.zeros(2, 2)})) is None


# --- Running.


def test_it_says_what_the_network_thinks_of_the_picture(model: FolderModel) -> None:
    image = draw(SIDE, SIDE)
    outcome = _run(model, encode(image, "PNG"), top_k=3)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(CONFIG[name]).reshape(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    shares = _forward(_draw_state(), (pixels - mean) / std, heads=4, epsilon=1e-6).softmax(-1)[0]
    best = shares.argsort(descending=True)[:3].tolist()
    data = outcome.data
    assert isinstance(data, dict)
    assert data["image"] == {"width": SIDE, "height": SIDE}
    assert [guess["class_id"] for guess in data["predictions"]] == best
    assert data["top"] == data["predictions"][0]["class"] == CONFIG["id2label"][str(best[0])]
    for guess, class_id in zip(data["predictions"], best, strict=True):
        assert abs(guess["confidence"] - float(shares[class_id])) < 1e-4
    assert data["confidence"] == data["predictions"][0]["confidence"]


def test_labels_are_shown_without_what_cannot_be() -> None:
    """The database takes no NUL and no half of a character, and some marks turn a whole page around."""
    names = {
        str(number): name
        for number, name in enumerate(["a\0b", "\ud800c", "\u202ed\x1b", "\n", " e ", "<f>"])
    }
    found = convert.read_labels({"id2label": names}, len(names))
    assert found == ["ab", "c", "d", "class 3", "e", "<f>"]


def test_the_label_is_written_into_the_picture_or_not(model: FolderModel) -> None:
    image = draw(200, 120)
    plain = decode(_run(model, encode(image, "PNG"), label=False).files[0].data)
    assert np.array_equal(np.asarray(plain), np.asarray(image))
    assert registry.get("vit").keeps(registry.validate("vit", {}), model.facts) == "places"
    written = decode(_run(model, encode(image, "PNG")).files[0].data)
    changed = np.abs(np.asarray(written).astype(int) - np.asarray(image)).max(axis=2) > 0
    assert 0.005 < changed.mean() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_on_every_kind_of_picture(kind: str, model: FolderModel) -> None:
    outcome = _run(model, KINDS[kind])
    assert isinstance(outcome.data, dict)
    assert len(outcome.data["predictions"]) == 5
    assert sum(guess["confidence"] for guess in outcome.data["predictions"]) <= 1.001


def test_a_preview_says_the_same_of_the_whole_picture(model: FolderModel) -> None:
    data = encode(Image.effect_mandelbrot((800, 600), (-2, -1.5, 1, 1.5), 100).convert("RGB"), "PNG")
    recipe = Recipe.single("vit", weights=model.key)
    shown = engine.preview(recipe, data, Context(models={model.key: model}), max_side=400)
    whole = _run(model, data)
    assert isinstance(shown.data, dict)
    assert isinstance(whole.data, dict)
    assert shown.data["image"] == whole.data["image"] == {"width": 800, "height": 600}
    assert shown.data["top"] == whole.data["top"]
    assert abs(shown.data["confidence"] - whole.data["confidence"]) < 0.05
