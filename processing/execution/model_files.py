"""Image sets and models in the storage, as operations and families read them."""

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
    """A set of images in the storage, as operations read it."""

    def __init__(self, digests: list[str]):
        self._digests = digests
        self.key = ",".join(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def open(self, index: int, /) -> bytes:
        return blobs.read(self._digests[index])


class StoredModel:
    """A converted model in the storage, as families read it.

    `digest` is the digest of its model.json, which names the digests of the other files. All are blobs.
    """

    def __init__(self, digest: str):
        self.key = digest

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return the content of model.json. Raises OSError if the storage cannot deliver it."""
        return _facts(self.key)

    def read(self, name: str, /) -> bytes:
        """Return the bytes of a file. Raises OSError."""
        if name == FACTS:
            return blobs.read(self.key)
        entry = self.facts["files"].get(name)
        if entry is None:
            raise FileNotFoundError(name)
        return blobs.read(entry["sha256"])


@lru_cache(maxsize=FACTS_KEPT)
def _facts(digest: str) -> Mapping[str, Any]:
    facts: dict[str, Any] = json.loads(blobs.read(digest))
    return facts


def models_of(recipe: Recipe) -> dict[str, StoredModel]:
    """Return the models of a recipe's steps by digest. Files are read later, on demand."""
    return {digest: StoredModel(digest) for digest in recipe.weights()}
