"""Cards of models: a static cover, or the best sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import PLATFORM_HANDLE, User
from drive.storage import blobs
from market.covers import choose_sample, cover_of
from market.models import Listing, Sample, Version, Weights
from tests.market.factories import marks, model

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def add_samples(version: Version, *seen: list[dict[str, Any]], drawn: bool = True) -> Weights:
    """Add samples with these detected classes, with or without a result image."""
    weights = version.weights
    assert weights is not None
    stored = blobs.store(b"a picture", "image/webp")
    blobs.register([stored])
    for position, one in enumerate(seen):
        Sample.objects.create(
            weights=weights,
            position=position,
            before_id=stored.sha256,
            after_id=stored.sha256 if drawn else None,
            width=30,
            height=20,
            seen=one,
        )
    return weights


def found(name: str, count: int = 1) -> dict[str, Any]:
    return {"name": name, "count": count}


def guessed(name: str, confidence: float) -> dict[str, Any]:
    return {"name": name, "confidence": confidence}


@pytest.mark.parametrize(
    ("seen", "best"),
    [
        ([[], [], []], 0),
        ([[found("star", 9)], [found("star"), found("circle")], []], 1),
        ([[found("star")], [], [found("star", 2)]], 2),
        ([[guessed("a", 0.4), guessed("b", 0.3)], [guessed("b", 0.9)]], 1),
    ],
)
def test_the_best_sample_is_shown(user: User, seen: list[list[dict[str, Any]]], best: int) -> None:
    chosen = choose_sample(add_samples(model(user), *seen).samples.all())
    assert chosen is not None
    assert chosen.position == best


def test_a_model_without_samples_shows_none(user: User, client: Client) -> None:
    weights = model(user, publish=True).weights
    assert weights is not None
    assert choose_sample(weights.samples.all()) is None
    assert "ipau-cover-empty" in client.get("/models/").content.decode()


def test_a_card_shows_the_result_and_the_task(user: User, client: Client) -> None:
    weights = add_samples(model(user, publish=True), [], [found("cat")])
    _plain, telling = weights.samples.all()
    page = client.get("/models/").content.decode()
    assert f'src="/models/samples/{telling.pk}/before.webp"' in page
    assert f'src="/models/samples/{telling.pk}/after.webp"' in page
    assert ">Detector</span>" in page
    assert "ipau-sample-divided" not in page


def test_a_card_of_a_classifier_shows_its_top_class(user: User, client: Client) -> None:
    add_samples(model(user, publish=True, task="classify"), [guessed("<b>cat</b>", 0.9)], drawn=False)
    page = client.get("/models/").content.decode()
    assert "&lt;b&gt;cat&lt;/b&gt;</span>" in page
    assert ">Classifier</span>" in page


def test_a_card_of_a_generator_divides_its_sample(user: User, client: Client) -> None:
    add_samples(model(user, publish=True, task="image"), [])
    assert "ipau-sample-divided" in client.get("/models/").content.decode()


def test_each_model_of_the_demo_has_a_cover(user: User) -> None:
    user.handle = PLATFORM_HANDLE
    names = [
        path.name for path in Path(settings.BASE_DIR, "deploy", "demo_models").iterdir() if path.is_dir()
    ]
    assert names
    assert [name for name in names if not cover_of(Listing(owner=user, name=name))] == []
