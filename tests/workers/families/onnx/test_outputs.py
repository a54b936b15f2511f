"""ONNX graphs with one number, features or several outputs: selection and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from market.weights import report
from tests.workers.families.onnx.test_classifiers import HALVES
from tests.workers.families.onnx.test_family import convert, found, giving
from tests.workers.families.onnx.test_inputs import _square
from tests.workers.families.onnx.test_labels import PLAIN, SIDE, Tell, run_plainly, trace
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session


class Looks(nn.Module):
    """A small network in front of one or more heads."""

    def __init__(self, *heads: nn.Module, features: bool = False, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.look = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.heads = nn.ModuleList(heads)
        self.features = features

    def forward(self, x: Any) -> Any:
        seen = self.look(x)
        made = [head(seen) for head in self.heads]
        return tuple([*made, seen] if self.features else made) if len(made) > 1 or self.features else made[0]


def _linear(count: int, *more: nn.Module) -> nn.Module:
    torch.manual_seed(count)
    layer = nn.Linear(24, count)
    layer.weight.data *= 6
    return nn.Sequential(layer, *more)


class Ends(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Any) -> Any:
        return self.end(x)


# --- One number.

ONE: dict[str, tuple[tuple[nn.Module, ...], bool]] = {
    "logit": ((), False),
    "share": ((nn.Sigmoid(),), True),
    "no batch": ((Ends(lambda x: x.squeeze(0)),), False),
    "no batch, share": ((nn.Sigmoid(), Ends(lambda x: x.squeeze())), True),
    "mean of shares": ((Ends(lambda x: x.sigmoid().reshape(1, 1, 1).mean(2)),), True),
    "complement": ((Ends(lambda x: 1 - x.sigmoid()),), True),
    "with sides": ((Ends(lambda x: x[..., None, None]),), False),
}


@pytest.mark.parametrize(
    ("names", "classes"),
    [(["no", "yes"], ["no", "yes"]), (["cat"], ["not cat", "cat"]), (None, ["class 0", "class 1"])],
)
@pytest.mark.parametrize("kind", list(ONE))
def test_one_number_tells_two_classes_apart(
    kind: str, names: Any, classes: list[str], tmp_path: Path
) -> None:
    ends, is_share = ONE[kind]
    onnx = trace(Looks(_linear(1, *ends)))
    said = {**HALVES, **({"names": names} if names else {"task": "classify"})}
    model = convert(onnx, tmp_path, said)
    assert (model.facts["task"], model.facts["classes"]) == ("classify", classes)
    assert model.facts["layout"] == ("probabilities" if is_share else "sigmoid")
    value = float(run_plainly(onnx, ((_square(SIDE, 3) - 0.5) / 0.5).astype(np.float32)).ravel()[0])
    share = value if is_share else 1 / (1 + np.exp(-value))
    told = {one["class"]: one["confidence"] for one in found(model)}
    assert told == {
        classes[0]: pytest.approx(1 - share, abs=0.01),
        classes[1]: pytest.approx(share, abs=0.01),
    }
    assert 0.001 < share < 0.999


def test_a_share_needs_no_word(tmp_path: Path) -> None:
    model = convert(trace(Looks(_linear(1, nn.Sigmoid()))), tmp_path)
    assert model.facts["classes"] == ["class 0", "class 1"]


def test_half_of_a_softmax_is_a_share(tmp_path: Path) -> None:
    model = convert(trace(Looks(_linear(2, nn.Softmax(1), Ends(lambda x: x[:, 1:])))), tmp_path)
    assert model.facts["layout"] == "probabilities"


ODD: dict[str, tuple[Any, Any, str]] = {
    "an age": (lambda: trace(Looks(_linear(1))), None, "It returns one number of unknown meaning"),
    "of nothing": (
        lambda: trace(Looks(_linear(1, nn.Softmax(1)))),
        None,
        "over one number, so it always",
    ),
    "three names": (lambda: trace(Looks(_linear(1))), {"names": list("abc")}, "names 3 classes"),
    "a number for a class": (
        lambda: trace(Looks(_linear(4, Ends(lambda x: x.argmax(1))))),
        None,
        "only the number of the best class.*without ArgMax",
    ),
    "the best classes": (
        lambda: trace(Looks(_linear(9, Ends(lambda x: x.softmax(1).topk(3)))), names=("scores", "classes")),
        None,
        "only the 3 best scores.*without TopK",
    ),
    "named features": (
        lambda: trace(Looks(_linear(32)), names=("embedding",)),
        None,
        "“embedding” has 32 features instead of class scores",
    ),
    "features of length 1": (
        lambda: trace(Looks(_linear(32, Ends(lambda x: nn.functional.normalize(x))))),
        None,
        "32 features instead of class scores",
    ),
}


@pytest.mark.parametrize("case", list(ODD))
def test_numbers_that_are_no_classes(case: str, tmp_path: Path) -> None:
    onnx, said, sentence = ODD[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(onnx(), tmp_path, said)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("name", ["deepfake", "max_pooling2d", "inside_or_outside", "feat"])
def test_other_names_are_no_reason(name: str, tmp_path: Path) -> None:
    assert len(convert(trace(Looks(_linear(3)), names=(name,)), tmp_path).facts["classes"]) == 3


def test_features_that_are_named_are_classes(tmp_path: Path) -> None:
    onnx = trace(Looks(_linear(32)), names=("pooler_output",))
    names = [f"n{number}" for number in range(32)]
    assert convert(onnx, tmp_path, {"names": names}).facts["classes"] == names


@pytest.mark.parametrize("said", [None, {"layout": "sigmoid"}])
def test_classes_that_do_not_rule_each_other_out(said: Any, tmp_path: Path) -> None:
    onnx = trace(Looks(_linear(4, *(() if said else (nn.Sigmoid(),)))))
    model = convert(onnx, tmp_path, {**HALVES, **(said or {})})
    assert model.facts["layout"] == ("sigmoid" if said else "probabilities")
    made = run_plainly(onnx, ((_square(SIDE, 3) - 0.5) / 0.5).astype(np.float32))[0]
    wanted = 1 / (1 + np.exp(-made)) if said else made
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted.tolist(), abs=0.01)


@pytest.mark.parametrize("end", ["clamp", "hard"])
def test_shares_are_known_by_what_bounds_them(end: str, tmp_path: Path) -> None:
    ends = {"clamp": Ends(lambda x: (x / 6 + 0.5).clamp(0, 1)), "hard": nn.Hardsigmoid()}
    assert convert(trace(Looks(_linear(5, ends[end]))), tmp_path).facts["layout"] == "probabilities"


# --- Several outputs.


def _told(model: Any) -> dict[str, str]:
    return dict(report.describe_report({"facts": dict(model.facts)}).facts)


@pytest.mark.parametrize("names", [("a", "b"), ("logits", "features")])
@pytest.mark.parametrize("is_first", [True, False])
def test_features_beside_classes_are_not_read(is_first: bool, names: tuple[str, str], tmp_path: Path) -> None:
    network = Looks(_linear(4), features=True)
    order = Ends(lambda made: made if is_first else made[::-1])
    onnx = trace(nn.Sequential(network, order), names=names if is_first else names[::-1])
    model = convert(onnx, tmp_path, PLAIN)
    assert (model.facts["task"], len(model.facts["classes"])) == ("classify", 4)
    assert model.facts["output"] == {"name": names[0], "count": 2}
    assert _told(model)["Output"] == f"“{names[0]}”, one of 2 outputs"
    # What is not read is not computed for nothing.
    assert len(open_session(model.read("model.onnx")).run(np.zeros((1, 3, SIDE, SIDE), np.float32))) == 1


def test_a_model_with_one_output_says_nothing_of_outputs(tmp_path: Path) -> None:
    model = convert(trace(Looks(_linear(4))), tmp_path)
    assert "output" not in model.facts
    assert "Output" not in _told(model)


class Segments(nn.Module):
    """A segmenter with an auxiliary head, or with the maps that its result is the mean of."""

    def __init__(self, *, is_deep: bool) -> None:
        super().__init__()
        self.main, self.aux = Tell(lambda x: x), Tell(lambda x: x)
        nn.init.normal_(self.aux.look.weight, 0, 2)
        self.is_deep = is_deep

    def forward(self, x: Any) -> Any:
        main, aux = self.main(x), self.aux(x)
        return (main, aux, (main + aux) / 2) if self.is_deep else (main, aux)


@pytest.mark.parametrize("names", [("out", "aux"), ("aux_out", "logits"), ("first", "second")])
def test_auxiliary_heads_are_not_read(names: tuple[str, str], tmp_path: Path) -> None:
    onnx = trace(Segments(is_deep=False), names=names)
    model = convert(onnx, tmp_path)
    wanted = names[1] if "aux" in names[0] else names[0]
    assert model.facts["output"] == {"name": wanted, "count": 2}
    noise = np.random.default_rng(1).random((1, 3, SIDE, SIDE), np.float32)
    (made,) = open_session(model.read("model.onnx")).run(noise)
    import onnxruntime

    both = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).run(None, {"images": noise})
    assert np.abs(made - both[names.index(wanted)]).max() < 1e-5


def test_what_is_made_of_the_others_is_read(tmp_path: Path) -> None:
    """As of U²-Net, whose first output is put together from the six behind it."""
    model = convert(trace(Segments(is_deep=True), names=("a", "b", "c")), tmp_path)
    assert model.facts["output"] == {"name": "c", "count": 3}


def test_masks_of_one_class_beside_others(tmp_path: Path) -> None:
    masks = [np.full((1, 1, SIDE, SIDE), share) for share in (0.8, 0.3, 0.3)]
    model = convert(giving(*masks), tmp_path, {"names": ["thing"]})
    assert model.facts["output"] == {"name": "output0", "count": 3}
    assert found(model)[0]["confidence"] == pytest.approx(0.8)


def test_several_results_are_asked_for_by_name(tmp_path: Path) -> None:
    onnx = trace(Looks(_linear(2), _linear(5)), names=("gender", "race"))
    with pytest.raises(
        Refused,
        match=r"several possible results: “gender” .1, 2., “race” .1, 5.. Select one in the config.json",
    ):
        convert(onnx, tmp_path)
    for output, names in (("race", None), (None, list("abcde"))):
        folder = tmp_path / str(output)
        folder.mkdir()
        said = {"output": output} if output else {"names": names}
        model = convert(onnx, folder, said)
        assert (len(model.facts["classes"]), model.facts["output"]["name"]) == (5, "race")
    (tmp_path / "wrong").mkdir()
    with pytest.raises(Refused, match=r"has no output “age”. Its outputs are “gender” .1, 2., “race”"):
        convert(onnx, tmp_path / "wrong", {"output": "age"})


def test_a_box_beside_classes_is_said_not_to_be_read(tmp_path: Path) -> None:
    onnx = trace(Looks(_linear(6), _linear(4)), names=("scores", "bbox"))
    with pytest.raises(Refused, match=r"parts of detections: “scores” .1, 6., “bbox” .1, 4."):
        convert(onnx, tmp_path)
    (tmp_path / "said").mkdir()
    assert convert(onnx, tmp_path / "said", {"output": "scores"}).facts["task"] == "classify"


def test_shares_and_labels_of_pixels_together(tmp_path: Path) -> None:
    """Shares say more: how sure the model is."""
    network = Tell(lambda x: (x.argmax(1), x.softmax(1)))
    model = convert(trace(network, names=("labels", "shares")), tmp_path)
    assert (model.facts["layout"], model.facts["output"]["name"]) == ("semantic", "shares")


def test_labels_beside_how_sure_the_model_is(tmp_path: Path) -> None:
    network = Tell(lambda x: x.softmax(1).max(1))
    model = convert(trace(network, names=("shares", "labels")), tmp_path, {"names": list("abcde")})
    assert (model.facts["layout"], model.facts["output"]["name"]) == ("labels", "labels")


def test_the_last_hidden_state_of_a_transformer_is_no_detector(tmp_path: Path) -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.guess = nn.Conv2d(3, 48, 16, 16), nn.Linear(48, 7)

        def forward(self, x: Any) -> Any:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return tokens, self.guess(tokens.mean(1))

    model = convert(trace(Transformer(), names=("t0", "t1")), tmp_path)
    assert (model.facts["task"], model.facts["output"]["name"]) == ("classify", "t1")
    (tmp_path / "alone").mkdir()
    with pytest.raises(Refused, match=r"not boxes in pixels|not confidences"):
        convert(trace(nn.Sequential(Transformer(), Ends(lambda made: made[0]))), tmp_path / "alone")
