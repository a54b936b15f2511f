"""Model family for tests that logs each model load of a worker."""

import os
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tests.market.factories import Marks, MarksParams
from workers.plugin import Context, PictureView, ProcessCache, Result

# Environment variable with the path of the log file.
LOG = "MARKS_LOG"
T = TypeVar("T")


class LoggedMarks(Marks):
    def run(self, picture: PictureView, params: MarksParams, context: Context) -> Result:
        assert context.memo is not None
        return super().run(picture, params, replace(context, memo=_Logged(context.memo)))


class _Logged:
    """A process cache that logs each miss."""

    def __init__(self, inner: ProcessCache) -> None:
        self._inner = inner

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        def logged() -> T:
            with Path(os.environ[LOG]).open("a") as log:
                log.write(f"{os.getpid()} {key}\n")
            return make()

        return self._inner.get(key, logged, weigh)

    def weigh(self, key: Hashable, size: int) -> None:
        self._inner.weigh(key, size)
