"""LRU cache of a worker process, bounded by bytes: sessions, models and tables for the next images."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")
# A dozen small models, or one of the largest detectors. The site sets the size for its workers.
DEFAULT_BYTES = 1024 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """A thread-safe LRU cache. Two threads may build the same value, but none sees a partial one."""

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
        """Return the cached value of `key`, or build and cache it. `weigh` returns its size in bytes."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return cast("T", self._entries[key][0])
        value = make()
        self._store(key, value, weigh(value))
        return value

    def weigh(self, key: Hashable, size: int) -> None:
        """Update the size of a cached value, in bytes, and evict others to make room.

        A value larger than the whole cache is evicted itself.
        """
        with self._lock:
            if key not in self._entries:
                return
            value, before = self._entries.pop(key)
            self._bytes -= before
            if size > self.max_bytes:
                return
            self._entries[key] = (value, size)
            self._bytes += size
            self._evict()

    def keys(self) -> list[Hashable]:
        """Return the keys of all cached values, least recently used first."""
        with self._lock:
            return list(self._entries)

    def models(self) -> frozenset[str]:
        """Return the digests of all models with a cached value. Their keys are `(kind, digest)`."""
        parts = (part for key in self.keys() if isinstance(key, tuple) for part in key)
        return frozenset(part for part in parts if isinstance(part, str) and _DIGEST.fullmatch(part))

    def resize(self, max_bytes: int) -> None:
        """Change the size limit, and evict values above it."""
        with self._lock:
            self.max_bytes = max_bytes
            self._evict()

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _store(self, key: Hashable, value: object, size: int) -> None:
        if size > self.max_bytes:
            return
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key)[1]
            self._entries[key] = (value, size)
            self._bytes += size
            self._evict()

    def _evict(self) -> None:
        while self._bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed


PROCESS_CACHE = Cache()
