"""What operations are handed out of the storage: sets of pictures, and models."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from drive.storage import blobs
from workers.bundle import FACTS
from workers.recipe import Recipe

# Facts are a few KB each, those of models with thousands of classes included.
FACTS_KEPT = 64


class Blobs:
    """A set of pictures in the storage, as operations see it."""

    def __init__(self, digests: list[str]):
        self._digests = digests
        self.key = ",".join(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def open(self, index: int, /) -> bytes:
        return blobs.read(self._digests[index])


class StoredModel:
    """A converted model in the storage, as families see it.

    Its digest is that of its model.json, which names the digests of its other files: all are blobs.
    """

    def __init__(self, digest: str):
        self.key = digest

    @property
    def facts(self) -> Mapping[str, Any]:
        """Raises OSError where the storage does not give them."""
        return _facts(self.key)

    def read(self, name: str, /) -> bytes:
        """Return one of its files. Raises OSError."""
        if name == FACTS:
            return blobs.read(self.key)
        found = self.facts["files"].get(name)
        if found is None:
            raise FileNotFoundError(name)
        return blobs.read(found["sha256"])


@lru_cache(maxsize=FACTS_KEPT)
def _facts(digest: str) -> Mapping[str, Any]:
    facts: dict[str, Any] = json.loads(blobs.read(digest))
    return facts


def models_of(recipe: Recipe) -> dict[str, StoredModel]:
    """Return the models that a recipe's steps run, by digest. Nothing is read yet."""
    return {digest: StoredModel(digest) for digest in recipe.weights()}
