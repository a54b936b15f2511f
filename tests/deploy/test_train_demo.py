"""Tests of the demo models: training images, metrics, training, and the stored models."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.train_demo.pictures import pencil
from deploy.train_demo.pictures import shapes as pictures
from deploy.train_demo.pictures.patterns import PATTERNS, draw_pattern
from deploy.train_demo.pictures.scenes import draw_scene
from deploy.train_demo.pictures.shapes import CLASSES
from deploy.train_demo.precision import mean_average_precision, share_boxes, share_pixels
from workers.bundle import FolderModel

Box = tuple[float, ...]
STORED_MODELS = Path(__file__).resolve().parents[2] / "deploy/demo_models"
STORED_NAMES = sorted(path.parent.name for path in STORED_MODELS.glob("*/card.json"))
FEW = 12
MOST_BYTES = 5 * 2**20


# --- Training images.


def test_a_seed_always_draws_the_same_image_and_shapes_lie_in_it() -> None:
    picture, shapes = pictures.draw(3, 96)
    again, _ = pictures.draw(3, 96)
    assert np.array_equal(np.asarray(picture), np.asarray(again))
    assert picture.size == (96, 96)
    for each in shapes:
        left, top, right, bottom = each.box
        assert -0.01 <= left < right <= 1.01
        assert -0.01 <= top < bottom <= 1.01


def test_label_map_has_the_pixels_of_each_shape() -> None:
    square = pictures.Shape(1, ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
    corner = pictures.Shape(1, ((0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)))
    marks = pictures.mark([square, corner], 8)
    assert marks.shape == (8, 8)
    assert (marks == 1).sum() == 4 * 4 - 2 * 2
    # The shape painted last is on top.
    assert (marks[4:, 4:] == 2).all()
    assert (marks == 0).sum() == 64 - 12 - 16


def test_a_single_shape_fills_most_of_its_image() -> None:
    for seed in range(20):
        picture, shape = pictures.draw_one(seed, 48)
        left, top, right, bottom = shape.box
        assert picture.size == (48, 48)
        assert 0.35 <= max(right - left, bottom - top) <= 0.91


def test_a_seed_always_draws_the_same_pattern_and_seeds_cover_all_patterns() -> None:
    drawn = [draw_pattern(seed, 40) for seed in range(40)]
    assert {kind for _, kind in drawn} == set(range(len(PATTERNS)))
    assert np.array_equal(np.asarray(drawn[7][0]), np.asarray(draw_pattern(7, 40)[0]))
    # All patterns are visible.
    assert all(np.asarray(picture.convert("L")).std() > 5 for picture, _ in drawn)


def test_a_seed_always_draws_the_same_scene_and_seeds_differ() -> None:
    first, again, other = (np.asarray(draw_scene(seed, 64)) for seed in (5, 5, 6))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_a_drawing_has_lines_at_edges_and_pale_colors_elsewhere() -> None:
    pixels = np.full((60, 60, 3), 230, np.uint8)
    pixels[:, 30:] = (180, 40, 40)
    drawn = np.asarray(pencil.redraw(Image.fromarray(pixels))).astype(int)
    assert (np.abs(drawn[30, 5] - (255 - 0.6 * 25)) <= 1).all()
    wash = 255 - 0.6 * (255 - np.array([180, 40, 40]))
    assert (np.abs(drawn[30, 55] - wash) <= 1).all()
    # The dark side of the edge.
    assert (drawn[30, 31] < wash - 30).all()


# --- Metrics.


def test_map_is_one_for_correct_detections_and_lower_with_false_ones() -> None:
    truth: list[list[tuple[int, Box]]] = [
        [(0, (0.1, 0.1, 0.4, 0.4)), (1, (0.5, 0.5, 0.9, 0.9))],
        [(0, (0, 0, 0.5, 0.5))],
    ]
    right = [[(0.9, *each) for each in shapes] for shapes in truth]
    assert measure(right, truth) == pytest.approx(1)
    # A false detection with higher confidence than all correct ones of its class.
    wrong = [[*right[0], (0.95, 0, (0.6, 0.0, 0.9, 0.3))], right[1]]
    assert measure(wrong, truth) == pytest.approx((2 / 3 + 1) / 2)
    # A duplicate detection counts once.
    twice = [[*right[0], (0.95, 1, truth[0][1][1])], right[1]]
    assert measure(twice, truth) == pytest.approx(1)
    assert measure([[], []], truth) == 0


def measure(found: list[list[tuple[float, int, Box]]], truth: list[list[tuple[int, Box]]]) -> float:
    return mean_average_precision(found, truth, share_boxes, classes=len(CLASSES))


def test_iou_of_boxes_and_masks() -> None:
    assert share_boxes((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert share_boxes((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert share_pixels(first, second) == 0
    first[:, :2], second[:, 1:3] = True, True
    assert share_pixels(first, second) == pytest.approx(1 / 3)


# --- Training and stored models.
# Tests import the training modules inside functions, so that collecting tests does not load torch.


def test_a_few_steps_change_the_weights_and_write_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy.train_demo import detector

    monkeypatch.setattr(detector, "SIDE", 64)
    monkeypatch.setattr(detector, "BATCH", 2)
    trained = detector.train(2)
    fresh = detector.build()
    assert any((a != b).any() for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))
    assert trained.names == dict(enumerate(CLASSES))
    detector.save(trained, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size > 500_000


def test_crops_match_their_targets_and_depend_only_on_the_step() -> None:
    from deploy.train_demo.pictures.pairs import Pairs

    random = np.random.default_rng(0)
    small = [random.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(3)]
    pairs = Pairs(small, [picture.repeat(2, 0).repeat(2, 1) for picture in small], 2)
    given, wanted = pairs.take(4, 8, 5)
    assert (given.shape, wanted.shape) == ((8, 3, 5, 5), (8, 3, 10, 10))
    assert (wanted[..., ::2, ::2] == given).all()
    assert (wanted[..., 1::2, 1::2] == given).all()
    assert (pairs.take(4, 8, 5)[0] == given).all()
    assert (pairs.take(5, 8, 5)[0] != given).any()


def test_the_first_layers_are_copied_from_another_model() -> None:
    from safetensors.torch import load_file

    from deploy.train_demo import classifier, detector, ultralytics_nets

    fresh, model = classifier.build(), classifier.build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ultralytics_nets.copy_layers(model, detector.STORED_MODEL, layers=2)
    stored = load_file(detector.STORED_MODEL / "weights.safetensors")
    for name, tensor in model.state_dict().items():
        is_copied = name.startswith(("model.0.", "model.1."))
        assert (tensor == (stored if is_copied else before)[name]).all(), name
    with pytest.raises(RuntimeError, match="none of these layers"):
        ultralytics_nets.copy_layers(fresh, detector.STORED_MODEL, layers=0)


@pytest.fixture
def short_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return a function that trains a model for two steps on small images, and stores it in `tmp_path`."""
    from deploy.train_demo import __main__ as training
    from deploy.train_demo import catalogue, classifier, detector, transformer
    from deploy.train_demo.pictures import pairs

    for module in (detector, classifier, transformer):
        monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(detector, "SIDE", 64)
    monkeypatch.setattr(pairs, "SCENES", 2)
    monkeypatch.setattr(training, "STORED_MODELS", tmp_path)
    plans = {plan.name: plan for plan in catalogue.PLANS}

    def make(name: str, *, target: float) -> bool:
        return training.make(replace(plans[name], steps=2, pictures=2, target=target), None)

    return make


@pytest.mark.parametrize(
    "name", ["shapes-segmenter", "shapes-classifier", "pattern-classifier", "colored-pencil", "double-size"]
)
def test_a_trained_model_is_converted_and_stored_with_its_card(
    tmp_path: Path, short_training: Callable[..., bool], name: str
) -> None:
    from deploy.train_demo.catalogue import PLANS

    plan = next(plan for plan in PLANS if plan.name == name)
    assert short_training(name, target=-1e9)
    home = tmp_path / name
    card = json.loads((home / "card.json").read_text())
    assert (card["title"], card["summary"]) == (plan.title, plan.summary)
    assert "2 drawn" in card["description"]
    assert len(list(home.glob("*.jpg"))) == len(plan.samples())
    assert FolderModel(home / "model").facts["family"] == plan.family


def test_a_model_below_its_target_is_not_stored(
    tmp_path: Path, short_training: Callable[..., bool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not short_training("shapes-classifier", target=1e9)
    assert "Target: 1e+09" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_all_models_of_the_catalog_are_stored() -> None:
    from deploy.train_demo.catalogue import PLANS

    assert sorted(plan.name for plan in PLANS) == STORED_NAMES


@pytest.mark.parametrize("name", STORED_NAMES)
def test_a_stored_model_is_small_and_reaches_its_target(name: str) -> None:
    from deploy.train_demo.catalogue import PLANS

    plan = next(plan for plan in PLANS if plan.name == name)
    model = STORED_MODELS / name / "model"
    assert {path.name for path in model.iterdir()} == {"model.json", "model.onnx", "weights.safetensors"}
    assert sum(path.stat().st_size for path in (STORED_MODELS / name).rglob("*")) < MOST_BYTES
    card = json.loads((STORED_MODELS / name / "card.json").read_text())
    assert (card["title"], card["summary"]) == (plan.title, plan.summary)
    assert card["description"].startswith(plan.about)
    measured = plan.measure(model, FEW)
    # A dozen images are less precise than hundreds: allow one more error.
    assert measured.gain >= plan.target - (1 / FEW if plan.family in ("yolo", "vit") else 0)
