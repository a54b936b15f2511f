"""Vision Transformers (ViT, DeiT): image classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.inference.errors import check_finite
from workers.inference.sessions import get_session, model_of
from workers.nets.plan import check_settings
from workers.plugin import (
    IMAGE,
    Context,
    Family,
    Kept,
    OutputSpec,
    Params,
    PictureView,
    Result,
    slider,
    toggle,
)
from workers.vision.classify import describe, prepare, rank
from workers.vision.draw import draw_title


class VitParams(Params):
    top_k: int = slider(
        5,
        ge=1,
        le=20,
        title="Top classes",
        help="Number of classes to return, most confident first.",
    )
    label: bool = toggle(True, title="Label", help="Draw the most confident class on the image.")


class Vit(Family[VitParams]):
    """Runs classifiers in the layouts of Hugging Face, timm and torchvision."""

    key = "vit"
    title = "Vision Transformer"
    summary = "Classify images with a Vision Transformer."
    description = (
        "Runs ViT and DeiT classifiers of Hugging Face Transformers, timm and torchvision, with the labels "
        "of `config.json`. The image is resized to the square input of the model. Returns the top classes "
        "as data, and the image with the top class drawn on it."
    )
    queue = "gpu"
    version = 1
    outputs = (IMAGE, OutputSpec("classes", "data", "Classes"))
    Params = VitParams

    def keeps(self, params: VitParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def run(self, picture: PictureView, params: VitParams, context: Context) -> Result:
        facts = model_of(context).facts
        session = get_session(context)
        pixels = prepare(picture, facts["input"]["width"], facts)
        shares = session.run(pixels)[0][0]
        check_finite(shares)
        guesses = rank(shares, facts["classes"], params.top_k, None)
        best = guesses[0]
        image = picture.rgb()
        if params.label:
            image = draw_title(image, f"{best.name} {best.confidence:.2f}", best.class_id)
        return Result(image, data=describe(guesses, picture, context))

    def recognize(self, upload: Any) -> str | None:
        from workers.families.vit import convert as classifiers

        return classifiers.recognize(upload)

    def convert(self, upload: Any) -> Any:
        from workers.families.vit import convert as classifiers

        return classifiers.convert(upload)

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        from workers.families.vit import convert as classifiers

        settings = facts["architecture"]["settings"]
        check_settings(settings)
        return classifiers.build(settings, tensors)
