"""Uploads of generators: recognition by names and shapes, exact conversion, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.families.gan import enlargers, generators
from tests.workers.families.gan.layers import Sample, upload_of
from workers import bundle, registry
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session
from workers.nets import catalogue
from workers.sandbox import run

SAMPLES: dict[str, tuple[Sample, str, dict[str, object]]] = {
    "compact": (enlargers.srvgg(), "Real-ESRGAN compact ×2, 4 convolutions", {"layout": "tiles", "scale": 2}),
    "compact, gray": (enlargers.srvgg(3, channels=1), "Real-ESRGAN compact ×3, 4 convolutions", {"scale": 3}),
    "esrgan": (enlargers.rrdb(), "ESRGAN ×4, 2 blocks", {"layout": "tiles", "scale": 4}),
    "esrgan, later": (enlargers.rrdb(enlargers.LATER), "ESRGAN ×4, 2 blocks", {"scale": 4}),
    "esrgan, first ×1": (enlargers.rrdb(enlargers.first_release(1, 0), 1), "ESRGAN ×1, 1 blocks", {}),
    "esrgan, first ×2": (enlargers.rrdb(enlargers.first_release(1, 1), 1), "ESRGAN ×2, 1 blocks", {}),
    "esrgan, first ×4": (enlargers.rrdb(enlargers.first_release(3, 2), 3), "ESRGAN ×4, 3 blocks", {}),
    "esrgan, first ×8": (enlargers.rrdb(enlargers.first_release(1, 3), 1), "ESRGAN ×8, 1 blocks", {}),
    "esrgan, folded ×2": (enlargers.rrdb(fold=2), "ESRGAN ×2, 2 blocks", {"stride": 2, "scale": 2}),
    "esrgan, folded ×1": (enlargers.rrdb(fold=4), "ESRGAN ×1, 2 blocks", {"stride": 4, "scale": 1}),
    "resnet": (generators.resnet(), "ResNet generator, 2 blocks", {"layout": "whole", "stride": 4}),
    "resnet, batch": (generators.resnet("batch", dropout=True), "ResNet generator, 2 blocks", {"stride": 4}),
    "resnet, no dropout": (generators.resnet("batch"), "ResNet generator, 2 blocks", {"layout": "tiles"}),
    "unet": (generators.unet(), "U-Net generator, 4 levels", {"layout": "whole", "stride": 16}),
    "unet, instance": (generators.unet("instance"), "U-Net generator, 4 levels", {"layout": "whole"}),
    "unet, two levels": (generators.unet(widths=(4, 8)), "U-Net generator, 2 levels", {"stride": 4}),
    "style": (generators.transformer_net(), "Fast neural style", {"layout": "whole", "stride": 4}),
    "anime": (generators.anime(), "AnimeGANv2 generator", {"layout": "whole", "stride": 4}),
}  # fmt: skip
every_sample = pytest.mark.parametrize("name", SAMPLES)
GAN = registry.get("gan")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@every_sample
def test_it_is_recognised_and_gives_what_its_layers_give(name: str) -> None:
    sample, title, facts = SAMPLES[name]
    upload = upload_of(sample.state)
    assert GAN.recognize(upload) == title
    made = GAN.convert(upload)
    assert made.facts["title"] == title
    assert facts.items() <= made.facts.items()
    assert made.difference <= made.tolerance == 1 / 510
    session = open_session(made.onnx)
    generator = torch.Generator().manual_seed(5)
    channels = made.facts["input"]["channels"]
    for height, width in ((32, 32), (64, 48)):
        pixels = torch.rand(1, channels, height, width, generator=generator)
        expected = sample.forward(pixels).numpy()
        got = session.run(pixels.numpy())[0]
        assert got.shape == expected.shape
        # Random weights must show something for the comparison to mean anything.
        assert expected.std() > 0.02
        assert np.abs(got - expected).max() < 2e-3
    # The tensors of the bundle make the same network again.
    net = catalogue.build(made.facts["architecture"], made.tensors)
    assert np.abs(net(pixels).numpy() - expected).max() < 2e-3
    learnt = sum(tensor.numel() for key, tensor in made.tensors.items() if not _is_statistic(key))
    assert made.facts["parameters"] == learnt


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_noise_becomes_pictures() -> None:
    sample = generators.dcgan()
    made = GAN.convert(upload_of(sample.state))
    assert made.facts["title"] == "DCGAN generator, 16 × 16"
    assert made.facts["input"] == {"width": 1, "height": 1, "channels": 12}
    noise = torch.randn(5, 12, 1, 1, generator=torch.Generator().manual_seed(4))
    got = open_session(made.onnx).run(noise.numpy())[0]
    assert got.shape == (5, 3, 16, 16)
    assert np.abs(got - sample.forward(noise).numpy()).max() < 1e-4


def test_floating_point_operations_are_counted() -> None:
    """Four convolutions of three by three over a megapixel, multiplying and adding for each weight."""
    made = GAN.convert(upload_of(enlargers.srvgg().state))
    weights = 9 * (3 * 8 + 8 * 8 + 8 * 8 + 8 * 12)
    assert made.facts["flops"] == 2 * 1024**2 * weights


# --- What weights come wrapped in.


_WRAPPINGS = (
    "module.", "params.", "state_dict.", "state_dict.module.", "netG.module.", "generator_state_dict.",
    "G_state_dict.", "_orig_mod.", "state_dict.generator.", "state_dict.net_g.", "model_state_dict.net.",
)  # fmt: skip


@pytest.mark.parametrize("wrapping", _WRAPPINGS)
def test_wrappers_are_peeled_off(wrapping: str) -> None:
    sample = enlargers.srvgg()
    made = GAN.convert(upload_of({wrapping + name: tensor for name, tensor in sample.state.items()}))
    assert made.tensors.keys() == sample.state.keys()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("state_dict.generator.", "state_dict.discriminator."),
        ("state_dict.net.", "state_dict.loss.vgg."),
        ("generator_state_dict.", "discriminator_state_dict."),
        ("netG.", "optimizer.state.0."),
    ],
)
def test_what_lies_beside_the_generator_is_left(ours: str, theirs: str) -> None:
    sample = enlargers.srvgg()
    both = {ours + name: tensor for name, tensor in sample.state.items()}
    both |= {f"{theirs}main.{number}.weight": torch.ones(4, 3, 3, 3) for number in range(3)}
    assert GAN.convert(upload_of(both)).tensors.keys() == sample.state.keys()


def test_of_two_sets_the_smoothed_one_is_taken() -> None:
    plain, smoothed = enlargers.srvgg(), enlargers.srvgg(4)
    both = {f"params.{name}": tensor for name, tensor in plain.state.items()}
    both |= {f"params_ema.{name}": tensor for name, tensor in smoothed.state.items()}
    assert GAN.convert(upload_of(both)).facts["scale"] == 4


def test_half_precision_is_widened() -> None:
    sample = enlargers.srvgg()
    made = GAN.convert(upload_of({name: tensor.half() for name, tensor in sample.state.items()}))
    assert {tensor.dtype for tensor in made.tensors.values()} == {torch.float32}


def test_norms_saved_before_batches_were_counted_are_taken() -> None:
    state = generators.resnet("batch").state
    uncounted = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(uncounted) < len(state)
    assert GAN.convert(upload_of(uncounted)).difference < 1e-4


def test_a_saved_checkpoint_becomes_a_model_in_the_sandbox(tmp_path: Path) -> None:
    torch.save({"params_ema": enlargers.srvgg().state, "epoch": 3}, tmp_path / "weights.pth")
    report = run.convert(tmp_path / "weights.pth", tmp_path / "out")
    assert report.ok, report.sentence
    assert (report.family, report.title) == ("gan", "Real-ESRGAN compact ×2, 4 convolutions")
    model = bundle.FolderModel(tmp_path / "out")
    assert model.key == report.digest == bundle.verify(tmp_path / "out")[0]
    assert model.facts["architecture"]["settings"]["convolutions"] == 2


# --- Refused weights.


def test_others_weights_are_not_its_own() -> None:
    assert GAN.recognize(upload_of({"conv1.weight": torch.zeros(8, 3, 7, 7)})) is None
    assert GAN.recognize(upload_of({})) is None
    with pytest.raises(Refused, match="do not match a supported generator"):
        GAN.convert(upload_of({"fc.weight": torch.zeros(2, 2)}))


def test_a_missing_tensor_is_named() -> None:
    state = dict(enlargers.rrdb().state)
    del state["body.1.rdb2.conv3.bias"]
    with pytest.raises(Refused, match=r"lacks tensors .*: body\.1\.rdb2\.conv3\.bias\.") as caught:
        GAN.convert(upload_of(state))
    assert caught.value.code == "tensors"


def test_a_tensor_too_many_is_named() -> None:
    state = {**generators.resnet().state, "model.99.weight": torch.zeros(1)}
    with pytest.raises(Refused, match=r"does not have: model\.99\.weight"):
        GAN.convert(upload_of(state))


def test_a_tensor_of_another_size_is_named() -> None:
    state = dict(generators.anime().state)
    state["block_d.0.1.weight"] = torch.zeros(16, 15, 3, 3)
    with pytest.raises(Refused, match=r"the wrong shape: block_d\.0\.1\.weight"):
        GAN.convert(upload_of(state))


def test_what_a_failed_training_left_is_refused() -> None:
    state = dict(enlargers.srvgg().state)
    state["body.2.weight"] = torch.full_like(state["body.2.weight"], float("nan"))
    with pytest.raises(Refused, match=r"body\.2\.weight contains NaN or infinity"):
        GAN.convert(upload_of(state))


def test_channels_that_are_no_colors_are_refused() -> None:
    with pytest.raises(Refused, match="Images have 3, or 1 if gray"):
        GAN.convert(upload_of(enlargers.srvgg(channels=5).state))


@every_sample
def test_names_with_senseless_sizes_are_refused_or_not_known(name: str) -> None:
    state = SAMPLES[name][0].state
    for shape in ((), (0,), (3,), (1, 1), (0, 3, 7, 7), (4, 0, 3, 3), (1, 1, 1, 1), (2, 3, 4, 4), (2,) * 6):
        for key in list(state)[:3] + list(state)[-2:]:
            upload = upload_of({**state, key: torch.zeros(shape)})
            if GAN.recognize(upload) is None or torch.zeros(shape).shape == state[key].shape:
                continue
            with pytest.raises(Refused):
                GAN.convert(upload)


def test_huge_networks_are_not_even_planned() -> None:
    """A few kilobytes of names must not become gigabytes of layers."""
    empty = torch.zeros(0)
    state = {f"model.{block}.conv_block.1.weight": empty for block in range(10, 10_010)}
    state |= {"model.1.weight": torch.zeros(4, 3, 7, 7)}
    assert GAN.recognize(upload_of(state)) is None
    lying = dict(enlargers.srvgg().state)
    lying["body.0.weight"] = torch.zeros(1, 1).expand(100_000, 100_000)[:, :, None, None]
    assert GAN.recognize(upload_of(lying)) is None
