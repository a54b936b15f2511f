"""What can be told of weights from their headers, without loading them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workers.formats.byte_source import FormatError

# Thousands of times the largest models there are.
MOST_PARAMETERS = 10**15


@dataclass(frozen=True)
class WeightsFacts:
    """`parameters` is None where only unpickling would tell; `dtypes` are named as the format does."""

    format: str
    tensors: int
    parameters: int | None = None
    dtypes: tuple[str, ...] = ()
    producer: str = ""
    opset: int | None = None
    nodes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return those that are known."""
        found = {name: value for name, value in asdict(self).items() if value not in (None, "", ())}
        return {**found, "dtypes": list(self.dtypes)} if self.dtypes else found


def check_parameters(count: int) -> int:
    """Return the count of parameters. Raises FormatError for more than there can be."""
    if count > MOST_PARAMETERS:
        raise FormatError("It claims more parameters than there can be.")
    return count
