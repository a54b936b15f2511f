"""Tests of the strict JSON parser: JSON with millions of values is rejected before parsing."""

import json
import time

import pytest

from ipau.common.strict_json import UnreadableJSON, read_json


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b"1.5e3,", b'{"a":1},'])
@pytest.mark.parametrize("kind", [bytes, str])
def test_very_many_values_are_refused_soon(unit: bytes, kind: type) -> None:
    raw = b"[" + unit * (16_000_000 // len(unit)) + b"1]"
    started = time.thread_time()
    with pytest.raises(UnreadableJSON, match="too many values"):
        read_json(raw if kind is bytes else raw.decode())
    assert time.thread_time() - started < 0.5


def test_a_job_over_a_hundred_thousand_files_passes() -> None:
    item = {"file": "01234567-0123-0123-0123-0123456789ab", "input": {"threshold": 3, "method": "average"}}
    assert len(read_json(json.dumps({"items": [item] * 100_000}))["items"]) == 100_000


def test_a_picture_in_a_text_passes() -> None:
    sent = {"image": "data:image/png;base64," + "A" * 15_000_000}
    assert read_json(json.dumps(sent).encode()) == sent
