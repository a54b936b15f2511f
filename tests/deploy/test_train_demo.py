"""The training of the demo's models: what they learn from, what they are measured by, and that they run."""

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
KEPT = Path(__file__).resolve().parents[2] / "deploy/demo_models"
KEPT_NAMES = sorted(path.parent.name for path in KEPT.glob("*/card.json"))
FEW = 12
MOST_BYTES = 5 * 2**20


# --- What they learn from.


def test_pictures_are_the_same_for_a_seed_and_shapes_lie_where_they_are_said_to() -> None:
    picture, shapes = pictures.draw(3, 96)
    again, _ = pictures.draw(3, 96)
    assert np.array_equal(np.asarray(picture), np.asarray(again))
    assert picture.size == (96, 96)
    for each in shapes:
        left, top, right, bottom = each.box
        assert -0.01 <= left < right <= 1.01
        assert -0.01 <= top < bottom <= 1.01


def test_marks_tell_the_pixels_of_each_shape() -> None:
    square = pictures.Shape(1, ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
    corner = pictures.Shape(1, ((0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)))
    marks = pictures.mark([square, corner], 8)
    assert marks.shape == (8, 8)
    assert (marks == 1).sum() == 4 * 4 - 2 * 2
    # What was painted later hides the rest.
    assert (marks[4:, 4:] == 2).all()
    assert (marks == 0).sum() == 64 - 12 - 16


def test_a_shape_that_is_alone_fills_most_of_its_picture() -> None:
    for seed in range(20):
        picture, shape = pictures.draw_one(seed, 48)
        left, top, right, bottom = shape.box
        assert picture.size == (48, 48)
        assert 0.35 <= max(right - left, bottom - top) <= 0.91


def test_patterns_are_the_same_for_a_seed_and_of_every_kind() -> None:
    drawn = [draw_pattern(seed, 40) for seed in range(40)]
    assert {kind for _, kind in drawn} == set(range(len(PATTERNS)))
    assert np.array_equal(np.asarray(drawn[7][0]), np.asarray(draw_pattern(7, 40)[0]))
    # None is so faint that nobody could tell.
    assert all(np.asarray(picture.convert("L")).std() > 5 for picture, _ in drawn)


def test_scenes_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    first, again, other = (np.asarray(draw_scene(seed, 64)) for seed in (5, 5, 6))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_a_drawing_has_lines_at_edges_and_pale_colours_elsewhere() -> None:
    pixels = np.full((60, 60, 3), 230, np.uint8)
    pixels[:, 30:] = (180, 40, 40)
    drawn = np.asarray(pencil.redraw(Image.fromarray(pixels))).astype(int)
    assert (np.abs(drawn[30, 5] - (255 - 0.6 * 25)) <= 1).all()
    wash = 255 - 0.6 * (255 - np.array([180, 40, 40]))
    assert (np.abs(drawn[30, 55] - wash) <= 1).all()
    # The dark side of the edge.
    assert (drawn[30, 31] < wash - 30).all()


# --- What they are measured by.


def test_precision_is_one_for_what_is_right_and_falls_with_what_is_not() -> None:
    truth: list[list[tuple[int, Box]]] = [
        [(0, (0.1, 0.1, 0.4, 0.4)), (1, (0.5, 0.5, 0.9, 0.9))],
        [(0, (0, 0, 0.5, 0.5))],
    ]
    right = [[(0.9, *each) for each in shapes] for shapes in truth]
    assert measure(right, truth) == pytest.approx(1)
    # A surer answer where nothing is: every right one of its class comes after it.
    wrong = [[*right[0], (0.95, 0, (0.6, 0.0, 0.9, 0.3))], right[1]]
    assert measure(wrong, truth) == pytest.approx((2 / 3 + 1) / 2)
    # The same shape found twice counts once.
    twice = [[*right[0], (0.95, 1, truth[0][1][1])], right[1]]
    assert measure(twice, truth) == pytest.approx(1)
    assert measure([[], []], truth) == 0


def measure(found: list[list[tuple[float, int, Box]]], truth: list[list[tuple[int, Box]]]) -> float:
    return mean_average_precision(found, truth, share_boxes, classes=len(CLASSES))


def test_regions_overlap_by_what_they_share() -> None:
    assert share_boxes((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert share_boxes((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert share_pixels(first, second) == 0
    first[:, :2], second[:, 1:3] = True, True
    assert share_pixels(first, second) == pytest.approx(1 / 3)


# --- That they learn, and that those that are kept have learnt.
# What trains is loaded by the tests that need it: every run of the tests would load torch.


def test_a_few_steps_change_the_weights_and_leave_a_checkpoint(
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


def test_parts_of_scenes_belong_together_and_follow_from_the_step() -> None:
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


def test_a_model_takes_over_the_first_layers_of_another() -> None:
    from safetensors.torch import load_file

    from deploy.train_demo import classifier, detector, ultralytics_nets

    fresh, begun = classifier.build(), classifier.build()
    before = {name: tensor.clone() for name, tensor in begun.state_dict().items()}
    ultralytics_nets.take_over(begun, detector.KEPT, layers=2)
    known = load_file(detector.KEPT / "weights.safetensors")
    for name, tensor in begun.state_dict().items():
        taken = name.startswith(("model.0.", "model.1."))
        assert (tensor == (known if taken else before)[name]).all(), name
    with pytest.raises(RuntimeError, match="none of these layers"):
        ultralytics_nets.take_over(fresh, detector.KEPT, layers=0)


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Make a model of the catalogue in two steps, on tiny pictures, in a folder of the test's own."""
    from deploy.train_demo import __main__ as training
    from deploy.train_demo import catalogue, classifier, detector, transformer
    from deploy.train_demo.pictures import pairs

    for module in (detector, classifier, transformer):
        monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(detector, "SIDE", 64)
    monkeypatch.setattr(pairs, "SCENES", 2)
    monkeypatch.setattr(training, "KEPT", tmp_path)
    plans = {plan.name: plan for plan in catalogue.PLANS}

    def make(name: str, *, target: float) -> bool:
        return training.make(replace(plans[name], steps=2, pictures=2, target=target), None)

    return make


@pytest.mark.parametrize(
    "name", ["shapes-segmenter", "shapes-classifier", "pattern-classifier", "colored-pencil", "double-size"]
)
def test_what_is_trained_converts_and_is_kept_with_its_card(
    tmp_path: Path, short: Callable[..., bool], name: str
) -> None:
    from deploy.train_demo.catalogue import PLANS

    plan = next(plan for plan in PLANS if plan.name == name)
    assert short(name, target=-1e9)
    home = tmp_path / name
    card = json.loads((home / "card.json").read_text())
    assert (card["title"], card["summary"]) == (plan.title, plan.summary)
    assert "2 drawn" in card["description"]
    assert len(list(home.glob("*.jpg"))) == len(plan.samples())
    assert FolderModel(home / "model").facts["family"] == plan.family


def test_what_is_not_good_enough_is_not_kept(
    tmp_path: Path, short: Callable[..., bool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not short("shapes-classifier", target=1e9)
    assert "Wanted: 1e+09" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_all_that_is_in_the_catalogue_is_kept() -> None:
    from deploy.train_demo.catalogue import PLANS

    assert sorted(plan.name for plan in PLANS) == KEPT_NAMES


@pytest.mark.parametrize("name", KEPT_NAMES)
def test_what_is_kept_is_small_and_does_what_its_card_says(name: str) -> None:
    from deploy.train_demo.catalogue import PLANS

    plan = next(plan for plan in PLANS if plan.name == name)
    model = KEPT / name / "model"
    assert {path.name for path in model.iterdir()} == {"model.json", "model.onnx", "weights.safetensors"}
    assert sum(path.stat().st_size for path in (KEPT / name).rglob("*")) < MOST_BYTES
    card = json.loads((KEPT / name / "card.json").read_text())
    assert card["description"].startswith(plan.about)
    measured = plan.measure(model, FEW)
    # A dozen pictures tell less than hundreds: one more of them may be wrong.
    assert measured.gain >= plan.target - (1 / FEW if plan.family in ("yolo", "vit") else 0)
