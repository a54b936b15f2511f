"""Strict JSON, with nothing in it that the database cannot keep, and no more values than are bearable."""

import json
from typing import Any

# JSON of a job over 100,000 files: two for each, and some more. Each becomes a Python object.
MOST_JSON_GROUPS = 250_000
MOST_JSON_COMMAS = 1_000_000


class UnreadableJSON(ValueError):
    """What was sent is no JSON that is accepted. The message is a sentence for whoever sent it."""


def read_json(raw: bytes | str) -> Any:
    """Read strict JSON.

    Raises:
        UnreadableJSON: it is none, or holds NUL, half a character, a number that is none, or too many values.
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
        raise UnreadableJSON(f"This is not JSON that can be read: {error}.") from error
    return value


def _refuse_many_values(raw: bytes | str) -> None:
    """Refuse what would become millions of objects. Marks inside of texts count too: the limits are wide."""
    if isinstance(raw, bytes):
        groups, commas = raw.count(b"[") + raw.count(b"{"), raw.count(b",")
    else:
        groups, commas = raw.count("[") + raw.count("{"), raw.count(",")
    if groups > MOST_JSON_GROUPS or commas > MOST_JSON_COMMAS:
        raise UnreadableJSON(
            f"This JSON has too many values: at most {MOST_JSON_GROUPS:,} lists and objects, and "
            f"{MOST_JSON_COMMAS:,} commas, are accepted."
        )


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value
