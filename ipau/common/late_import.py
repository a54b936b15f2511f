"""Late imports: a lower app calls a function of a higher app, which it must not import."""

from typing import Generic, ParamSpec, TypeVar

from django.utils.module_loading import import_string

P = ParamSpec("P")
R = TypeVar("R")


class LateImport(Generic[P, R]):
    """A function that is registered by its dotted name and imported when it is called."""

    def __init__(self) -> None:
        self._name = ""

    def __bool__(self) -> bool:
        """Return whether a function is registered."""
        return bool(self._name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = import_string(self._name)(*args, **kwargs)
        return result

    def register(self, name: str) -> None:
        """Register the function of this dotted name. Apps call this in `ready`."""
        self._name = name
