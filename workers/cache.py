"""What a worker process keeps between pictures: least recently used first out, bounded by bytes."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")
# A dozen small models, or one of the largest detectors. Workers are told how much by the site.
DEFAULT_BYTES = 1024 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """A store for made things. Safe between threads: a thing may be made twice, never half."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        """Return what is kept under `key`, or make and keep it. `weigh` gives its size in bytes."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return cast("T", self._entries[key][0])
        made = make()
        self._keep(key, made, weigh(made))
        return made

    def weigh(self, key: Hashable, size: int) -> None:
        """Record what a kept thing holds by now, in bytes. The others make room for it.

        What has outgrown the whole store is kept no longer.
        """
        with self._lock:
            if key not in self._entries:
                return
            made, before = self._entries.pop(key)
            self._bytes -= before
            if size > self.max_bytes:
                return
            self._entries[key] = (made, size)
            self._bytes += size
            self._shed()

    def kept(self) -> list[Hashable]:
        """Return what things are kept under now."""
        with self._lock:
            return list(self._entries)

    def models(self) -> frozenset[str]:
        """Return the digests of the models of which something is kept: under (kind, digest)."""
        parts = (part for key in self.kept() if isinstance(key, tuple) for part in key)
        return frozenset(part for part in parts if isinstance(part, str) and _DIGEST.fullmatch(part))

    def resize(self, max_bytes: int) -> None:
        """Bound it anew; what is too much goes."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shed()

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _keep(self, key: Hashable, made: object, size: int) -> None:
        if size > self.max_bytes:
            return
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key)[1]
            self._entries[key] = (made, size)
            self._bytes += size
            self._shed()

    def _shed(self) -> None:
        while self._bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed


PROCESS_CACHE = Cache()
