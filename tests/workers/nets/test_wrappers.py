"""Checkpoints with averaged weights beside the others: the averaged ones are taken, whatever they are
called."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from market.weights.report import describe_report
from tests.workers.families.gan import enlargers, generators
from tests.workers.families.gan.layers import upload_of
from tests.workers.families.vit.test_family import CONFIG, _draw_state
from workers import registry
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session

GAN = registry.get("gan")
PLAIN, AVERAGED = enlargers.srvgg().state, {n: t + 0.01 for n, t in enlargers.srvgg().state.items()}
State = Mapping[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def _under(prefix: str, state: State) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def _is(made: Mapping[str, Tensor], state: State) -> bool:
    return made.keys() == state.keys() and all(torch.equal(made[name], state[name]) for name in state)


BESIDE = [
    ("generator", "generator_ema"), ("generator", "ema_generator"), ("module", "module_ema"), ("netG",
    "netG_ema"), ("netG", "netG_EMA"), ("generator", "generatorEMA"), ("G", "G_ema"), ("g", "g_ema"),
    ("net_g", "net_g_ema"),
    ("params", "params_ema"), ("model", "model_ema"), ("model", "ema_model"), ("model", "ema"), ("net",
    "swa_model"), ("state_dict", "state_dict_ema"), ("state_dict", "ema_state_dict"), ("model_state_dict",
    "ema_state_dict"),
    ("model_state_dict", "ema"), ("online_model", "ema_model"), ("model", "averaged_model"), ("model",
    "shadow"), ("generator_state_dict", "generator_ema_state_dict"), ("module", "model_ema.module"),
    ("state_dict.generator", "state_dict.generator_ema"), ("state_dict.net_g", "state_dict.ema_net_g.module"),
    ("state_dict.model", "state_dict.model_ema"), ("generator.module", "generator_ema.module"),
    ("model._orig_mod", "ema_model._orig_mod"), ("state_dict", "state_dict_ema.module"),
]  # fmt: skip


@pytest.mark.parametrize(("plain", "averaged"), BESIDE)
@pytest.mark.parametrize("is_first", [True, False])
def test_the_averaged_copy_is_taken(plain: str, averaged: str, is_first: bool) -> None:
    parts = [_under(averaged, AVERAGED), _under(plain, PLAIN)]
    first, second = parts if is_first else reversed(parts)
    made = GAN.convert(upload_of({**first, **second}))
    assert _is(made.tensors, AVERAGED)
    assert made.facts["averaged"] in averaged
    assert ("Weights", f"averaged weights in the file, “{made.facts['averaged']}”") in describe_report(
        {"facts": made.facts}
    ).facts


def test_an_averaged_copy_beside_bare_names_is_taken() -> None:
    made = GAN.convert(upload_of({**PLAIN, **_under("ema", AVERAGED)}))
    assert _is(made.tensors, AVERAGED)


def test_weights_that_are_no_average_are_told_as_such() -> None:
    made = GAN.convert(upload_of(_under("generator", PLAIN)))
    assert _is(made.tensors, PLAIN)
    assert made.facts["averaged"] is None
    assert "Weights" not in dict(describe_report({"facts": made.facts}).facts)


def test_the_average_of_another_network_is_left() -> None:
    others = {"main.0.weight": torch.ones(4, 3, 3, 3)}
    both = {
        **_under("generator", PLAIN),
        **_under("discriminator", others),
        **_under("discriminator_ema", others),
    }
    made = GAN.convert(upload_of(both))
    assert _is(made.tensors, PLAIN)
    assert made.facts["averaged"] is None


COUNTERS = {
    "latent diffusion": {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(9)},
    "ema-pytorch": {"initted": torch.tensor(True), "step": torch.tensor(7)},
    "PyTorch": {"model_ema.n_averaged": torch.tensor(3)},
}


@pytest.mark.parametrize("whose", COUNTERS)
def test_counters_of_the_averaging_are_no_tensors_of_the_network(whose: str) -> None:
    both = {**_under("model", PLAIN), **_under("model_ema.module", AVERAGED), **COUNTERS[whose]}
    assert _is(GAN.convert(upload_of(both)).tensors, AVERAGED)


def test_counters_alone_are_no_averaged_copy() -> None:
    made = GAN.convert(upload_of({**_under("model", PLAIN), **COUNTERS["latent diffusion"]}))
    assert _is(made.tensors, PLAIN)
    assert made.facts["averaged"] is None


def test_names_without_dots_are_those_of_latent_diffusion() -> None:
    flat = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in AVERAGED.items()}
    both = {**_under("model", PLAIN), **flat, **COUNTERS["latent diffusion"]}
    assert _is(GAN.convert(upload_of(both)).tensors, AVERAGED)


def test_a_list_of_torch_ema_is_in_the_order_of_the_parameters(tmp_path: Path) -> None:
    state = generators.resnet("batch").state
    learnt = [name for name in state if not name.endswith(STATISTICS)]
    shadow = [state[name] + 0.01 for name in learnt]
    saved = {"model": state, "ema": {"decay": 0.99, "num_updates": 4, "shadow_params": shadow}}
    torch.save(saved, tmp_path / "weights.pth")
    made = GAN.convert(open_upload(tmp_path / "weights.pth"))
    wanted = {**state, **dict(zip(learnt, shadow, strict=True))}
    assert _is(made.tensors, wanted)
    assert made.facts["averaged"] == "ema"
    saved["ema"]["shadow_params"] = shadow[:-1]  # type: ignore[index]
    torch.save(saved, tmp_path / "shorter.pth")
    with pytest.raises(
        Refused, match="averaged copy of the weights, “ema”, with other tensors than the network"
    ):
        GAN.convert(open_upload(tmp_path / "shorter.pth"))


# --- Buffers, which averages of parameters lack.

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
BATCHED: dict[str, Callable[[], State]] = {
    "resnet": lambda: generators.resnet("batch").state,
    "unet": lambda: generators.unet().state,
    "dcgan": lambda: generators.dcgan().state,
}


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("shell", ["", ".module"])
def test_statistics_that_the_average_lacks_are_those_of_the_network(name: str, shell: str) -> None:
    state = BATCHED[name]()
    learnt = {key: tensor * 1.1 for key, tensor in state.items() if not key.endswith(STATISTICS)}
    made = GAN.convert(upload_of({**_under("generator", state), **_under(f"generator_ema{shell}", learnt)}))
    assert _is(made.tensors, {**state, **learnt})
    assert made.facts["averaged"].startswith("generator_ema")
    # The graph, too, is that of batch norms.
    wanted = GAN.convert(upload_of({**state, **learnt}))
    shape = (1, made.facts["input"]["channels"], 1, 1) if name == "dcgan" else (1, 3, 32, 32)
    pixels = torch.rand(shape, generator=torch.Generator().manual_seed(2)).numpy()
    ours, theirs = (open_session(one.onnx).run(pixels)[0] for one in (made, wanted))
    assert abs(ours - theirs).max() < 1e-5


def test_an_average_without_statistics_and_without_its_network_is_refused() -> None:
    state = generators.resnet("batch").state
    learnt = {name: tensor for name, tensor in state.items() if not name.endswith(STATISTICS)}
    with pytest.raises(Refused, match="“generator_ema”, have no batch norm statistics"):
        GAN.convert(upload_of(_under("generator_ema", learnt)))


def test_a_part_of_an_average_is_refused() -> None:
    part = dict(list(AVERAGED.items())[:-2])
    with pytest.raises(Refused, match="averaged copy of the weights, “generator_ema”") as caught:
        GAN.convert(
            upload_of(
                {**_under("generator", PLAIN), **_under("generator_ema", {"other": part["body.0.weight"]})}
            )
        )
    assert "Save only the averaged weights" in caught.value.message
    assert caught.value.code == "tensors"


@pytest.mark.parametrize("name", ["schema", "remake", "semantic", "gemaG", "lemao"])
def test_words_that_only_contain_ema_are_no_averages(name: str) -> None:
    made = GAN.convert(upload_of(_under(name, PLAIN)))
    assert made.facts["averaged"] is None


# --- Other ways to keep them.


def test_an_average_among_the_tensors_of_the_network_is_taken() -> None:
    between = {f"ema_{name}": tensor for name, tensor in AVERAGED.items()}
    made = GAN.convert(upload_of({**PLAIN, **between}))
    assert _is(made.tensors, AVERAGED)
    assert made.facts["averaged"] == "ema_body"
    del between["ema_body.0.bias"]
    with pytest.raises(Refused, match="averaged copy of the weights, “ema_body”"):
        GAN.convert(upload_of({**PLAIN, **between}))


@pytest.mark.parametrize(
    "kept",
    [
        lambda state: (state, 7),
        lambda state: {"state_dict": state, "updates": 7},
        lambda state: {"shadow": state, "decay": 0.9},
        lambda state: {"shadow_params": list(state.values()), "num_updates": 3},
        list,
    ],
    ids=["pair", "state dict", "shadow", "list", "names"],
)
def test_an_average_with_a_count_is_taken(kept: Callable[[State], object], tmp_path: Path) -> None:
    is_list_of_names = kept is list
    torch.save({"model": dict(PLAIN), "ema": kept(dict(AVERAGED))}, tmp_path / "weights.pth")
    made = GAN.convert(open_upload(tmp_path / "weights.pth"))
    # A list without tensors is no average.
    assert _is(made.tensors, PLAIN if is_list_of_names else AVERAGED)


def test_statistics_beside_a_shadow_are_those_of_the_network() -> None:
    state = generators.resnet("batch").state
    learnt = {key: tensor * 1.1 for key, tensor in state.items() if not key.endswith(STATISTICS)}
    made = GAN.convert(upload_of({**_under("model", state), **_under("ema.shadow", learnt)}))
    assert _is(made.tensors, {**state, **learnt})


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema.module", "ema"])
def test_vision_transformers_are_taken_averaged_as_well(averaged: str) -> None:
    vit, state = registry.get("vit"), _draw_state()
    other = {name: tensor * 1.5 for name, tensor in state.items()}
    made = vit.convert(upload_of({**_under("state_dict", state), **_under(averaged, other)}, config=CONFIG))
    assert _is(made.tensors, other)
    assert made.facts["averaged"] in averaged


def test_thousands_of_copies_take_no_time() -> None:
    """Names alone, of which each could be an average of all others."""
    words = ["".join(letters) for letters in itertools.product("eE", "mM", "aA")]
    firsts = [f"{a}_{b}_{c}_{d}_model" for a, b, c, d in itertools.product(words, repeat=4)]
    state = {f"{first}.{number}": torch.ones(1) for first in firsts for number in range(4)}
    state |= {f"model.{number}.weight": torch.ones(1) for number in range(10_000)}
    begun = time.thread_time()
    assert GAN.recognize(upload_of(state)) is None
    assert time.thread_time() - begun < 20
