"""From an upload to a Vision Transformer that runs: built, exported, compared and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workers.nets import exporting, vit
from workers.nets.catalogue import fill
from workers.nets.generators import check_numbers
from workers.nets.plan import unwrap
from workers.weights.bundle import Bundle
from workers.weights.class_names import clean_names
from workers.weights.upload import Refused, Upload

# Of a probability: far below what is shown of one.
TOLERANCE = 1e-4
# What Hugging Face's image processor does where nothing else is said.
_MEAN = _STD = 0.5


def recognise(upload: Upload) -> str | None:
    """Return what these weights are called where they are a Vision Transformer's, else None."""
    found = _find(upload.tensors)
    if found is None:
        return None
    patch = found["vit.embeddings.patch_embeddings.projection.weight"].shape[-1]
    return f"Vision Transformer, patches of {patch} × {patch}"


def convert(upload: Upload) -> Bundle:
    """Rebuild a classifier. Raises Refused."""
    tensors = _find(upload.tensors)
    if tensors is None:
        raise Refused("These are not the weights of a Vision Transformer classifier.", code="unknown")
    config = upload.config or {}
    settings = vit.read_settings({name: tuple(t.shape) for name, t in tensors.items()}, config)
    own = {name: tensors[name] for name in vit.name_tensors(tensors)}
    net = build(settings, own)
    check_numbers(net)
    side, channels = settings["image"], settings["channels"]
    if channels != 3:
        raise Refused(f"It looks at pictures of {channels} channels; they have 3 here.", code="channels")
    example = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    onnx = exporting.export(net, example, {})
    facts = {
        "family": "vit",
        "task": "classify",
        "title": recognise(upload),
        "classes": read_labels(config, settings["classes"]),
        "input": {"width": side, "height": side, "channels": channels},
        "stride": settings["patch"],
        "parameters": exporting.count_parameters(net),
        "flops": exporting.count_flops(outline(settings), example.to("meta")),
        "layout": "probabilities",
        "mean": _read_numbers(config, "image_mean", _MEAN, channels),
        "std": _read_numbers(config, "image_std", _STD, channels),
        "stretch": True,
        "assumed": [name for name in ("mean", "std") if f"image_{name}" not in config],
        "architecture": {"net": "vit", "settings": settings},
    }
    difference = exporting.compare(net, onnx, [example, -example])
    return Bundle(facts, net.state_dict(), onnx, difference, TOLERANCE)


def outline(settings: Mapping[str, Any]) -> vit.ViT:
    """Build a classifier on the meta device: layers and sizes, but no memory."""
    with torch.device("meta"):
        net = vit.ViT(**settings)
    net.eval()
    return net


def build(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> vit.ViT:
    """Build a classifier and put its tensors in, as float32. Raises Refused where they do not fit."""
    net = outline(settings)
    fill(net, tensors)
    return net


def read_labels(config: Mapping[str, Any], count: int) -> list[str]:
    """The names of the classes, from `id2label`; without one they are called by their numbers.

    Raises Refused where it names others than the weights have.
    """
    named = config.get("id2label")
    if named is None:
        return [f"class {number}" for number in range(count)]
    if not isinstance(named, dict) or named.keys() != {str(number) for number in range(count)}:
        text = f"The id2label of the config.json does not name the {count} classes that these weights have."
        raise Refused(text, code="config")
    labels = [named[str(number)] for number in range(count)]
    if not all(isinstance(label, str) and label for label in labels):
        raise Refused("The id2label of the config.json has a name that is empty, or no text.", code="config")
    return [label or f"class {number}" for number, label in enumerate(clean_names(labels))]


def _read_numbers(config: Mapping[str, Any], name: str, default: float, count: int) -> list[float]:
    """One number for each channel, of which those of `image_std` must not be 0."""
    numbers = config.get(name, [default] * count)
    is_good = isinstance(numbers, list) and len(numbers) == count
    if not is_good or not all(type(n) in (int, float) and 0 <= n <= 1 for n in numbers):
        raise Refused(f"The {name} of the config.json is not {count} numbers of 0 to 1.", code="config")
    if name == "image_std" and 0 in numbers:
        raise Refused(
            "The image_std of the config.json has a 0, by which nothing can be divided.", code="config"
        )
    return [float(number) for number in numbers]


def _find(tensors: Mapping[str, Any]) -> dict[str, Tensor] | None:
    for wrapped in unwrap(tensors):
        reading = {vit.name_as_saved(name): tensor for name, tensor in wrapped.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in reading.items()}
        if vit.is_vit(shapes) and not any(0 in shape for shape in shapes.values()):
            return reading
    return None
