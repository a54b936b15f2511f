"""Facts about weights that their headers state, without loading them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workers.formats.byte_source import FormatError

# Thousands of times the largest existing models.
MOST_PARAMETERS = 10**15


@dataclass(frozen=True)
class WeightsFacts:
    """Facts about a file of weights.

    `parameters` is None if only unpickling would show it. `dtypes` have the format's own names.
    """

    format: str
    tensors: int
    parameters: int | None = None
    dtypes: tuple[str, ...] = ()
    producer: str = ""
    opset: int | None = None
    nodes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the known facts."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, "", ())}
        return {**known, "dtypes": list(self.dtypes)} if self.dtypes else known


def check_parameters(count: int) -> int:
    """Return the count of parameters. Raises FormatError if it is impossibly large."""
    if count > MOST_PARAMETERS:
        raise FormatError("It states an impossibly large number of parameters.")
    return count
