"""Unsupported networks, recognized by their tensor names, so that a refusal can name them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_READ = (
    "The supported classifiers are Vision Transformers of Hugging Face (ViT, DeiT), timm and torchvision. "
    "Export others to ONNX"
)
_NO_CLASSES = (
    "It is a Vision Transformer without a classification layer, like DINO, DINOv2, MAE and feature "
    "extractors. Train a classifier on it, and upload that"
)
# The first entry with a matching name counts.
_KNOWN = (
    (
        r"(^|\.)swin(v2)?\.|layers\.\d+\.blocks\.\d+\.attn\.(relative_position|logit_scale)",
        "a Swin Transformer",
    ),
    (r"features\.\d+\.\d+\.attn\.relative_position", "a Swin Transformer"),
    (
        r"(^|\.)beit\.|(^|\.)data2vec_vision\.|blocks\.\d+\.(gamma_1|attn\.(q_bias|relative_position))",
        "a BEiT, or a network of its kind (EVA, CaiT)",
    ),
    (r"(^|\.)dinov2(_with_registers)?\.", "a DINOv2 of Hugging Face"),
    (r"vision_model\.|visual\.transformer\.|(^|\.)logit_scale$", "a CLIP or SigLIP"),
    (r"(^|\.)decoder_(embed|blocks)\.", "a masked autoencoder (MAE)"),
    (r"(^|\.)convnext(v2)?\.|stages\.\d+\.blocks\.\d+\.(conv_dw|dwconv)", "a ConvNeXt"),
    (r"(^|\.)resnet\.|(^|\.)layer4\.\d+\.conv1\.weight$", "a ResNet"),
    (r"(^|\.)efficientnet\.|(^|\.)conv_stem\.weight$", "an EfficientNet or a network of its kind"),
    (r"\.rel_pos\.|relative_position|rel_pos_(h|w)$", "a transformer with relative positions"),
)
_PATCHES = re.compile(r"(^|\.)(patch_embed\.proj|patch_embeddings\.projection|conv_proj)\.weight$")
_HEAD = re.compile(r"(^|\.)(head|heads|classifier|fc)\.")


def explain_unknown(names: Iterable[str]) -> str | None:
    """Return a sentence that names an unsupported network, or None if it is not known."""
    names = list(names)
    for pattern, title in _KNOWN:
        wanted = re.compile(pattern)
        if any(wanted.search(name) for name in names):
            return f"It looks like {title}, which is not supported as weights. {_READ}."
    if any(_PATCHES.search(name) for name in names) and not any(_HEAD.search(name) for name in names):
        return f"{_NO_CLASSES}. {_READ}."
    return None
