"""Strict JSON parser: limits the number of values, and rejects values that the database cannot store."""

import json
from typing import Any

# Enough for a job over 100,000 files, with two objects each. Each value becomes a Python object.
MOST_JSON_GROUPS = 250_000
MOST_JSON_COMMAS = 1_000_000


class UnreadableJSON(ValueError):
    """The JSON is not accepted. The message is a sentence for the client."""


def read_json(raw: bytes | str) -> Any:
    """Parse strict JSON.

    Raises:
        UnreadableJSON: invalid JSON, NUL characters, lone surrogates, NaN or Infinity, or too many values.
    """
    _refuse_many_values(raw)
    try:
        value = json.loads(raw, parse_constant=_no_number, parse_float=_number)
        if b"\\u" in raw if isinstance(raw, bytes) else "\\u" in raw:
            text = json.dumps(value, ensure_ascii=False)
            text.encode()
            if "\\u0000" in text:
                raise ValueError("it contains a NUL character")
    except RecursionError as error:
        raise UnreadableJSON("This JSON is nested too deeply.") from error
    except ValueError as error:
        raise UnreadableJSON(f"This is not valid JSON: {error}.") from error
    return value


def _refuse_many_values(raw: bytes | str) -> None:
    """Reject JSON with millions of values. Brackets and commas inside strings count too."""
    if isinstance(raw, bytes):
        groups, commas = raw.count(b"[") + raw.count(b"{"), raw.count(b",")
    else:
        groups, commas = raw.count("[") + raw.count("{"), raw.count(",")
    if groups > MOST_JSON_GROUPS or commas > MOST_JSON_COMMAS:
        raise UnreadableJSON(
            f"This JSON has too many values. The limits are {MOST_JSON_GROUPS:,} lists and objects, and "
            f"{MOST_JSON_COMMAS:,} commas."
        )


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value
