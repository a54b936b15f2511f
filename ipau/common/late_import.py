"""Functions that an app further up offers to one below it, which must not import it."""

from typing import Generic, ParamSpec, TypeVar

from django.utils.module_loading import import_string

P = ParamSpec("P")
R = TypeVar("R")


class LateImport(Generic[P, R]):
    """A function that is registered by its dotted name, and imported when it is first called."""

    def __init__(self) -> None:
        self._name = ""

    def __bool__(self) -> bool:
        """Tell whether a function is registered."""
        return bool(self._name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = import_string(self._name)(*args, **kwargs)
        return found

    def register(self, name: str) -> None:
        """Take the function of this dotted name. An app calls this in `ready`."""
        self._name = name
