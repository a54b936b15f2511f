"""Models that several files of tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.workers.families import rebuilt
from workers.bundle import FolderModel


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FolderModel]:
    made: dict[str, FolderModel] = {}

    def model(name: str) -> FolderModel:
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / name
            folder.mkdir()
            made[name] = rebuilt.convert(name, folder)
        return made[name]

    return model
