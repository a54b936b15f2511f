"""Fixtures of converted models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.workers.families import rebuilt
from workers.bundle import FolderModel


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FolderModel]:
    models: dict[str, FolderModel] = {}

    def model(name: str) -> FolderModel:
        if name not in models:
            folder = tmp_path_factory.mktemp("models") / name
            folder.mkdir()
            models[name] = rebuilt.convert(name, folder)
        return models[name]

    return model
