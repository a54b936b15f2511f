"""Files with some bytes changed: each is read or refused, soon, and nothing else is raised."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.workers.checkpoints.attacks import write_attacks
from tests.workers.checkpoints.weights_files import onnx_bytes, safetensors_bytes, torch_bytes
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused

FILES = 250
_MOST_BYTES = 20_000
# Opcodes and ends of numbers, which change more than a byte at random does.
_TOKENS = (b"\xff" * 4, b"\0" * 4, b"\x80", b"(", b"R", b"b", b"u", b"2", b"0", b"h\0", b"PK\5\6")


def _seeds() -> list[bytes]:
    attacks = [content for content, _ in write_attacks("", 0).values() if 0 < len(content) < _MOST_BYTES]
    return [torch_bytes(), onnx_bytes(), safetensors_bytes(made="here"), *attacks]


def _mutate(seeds: list[bytes], chance: random.Random) -> bytes:
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        donor = chance.choice(seeds)
        start = chance.randrange(len(donor))
        part = chance.choice(
            (bytes([chance.randrange(256)]), chance.choice(_TOKENS), donor[start : start + 40], b"")
        )
        data[at : at + chance.choice((0, 1, 1, 8))] = part
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    chance, seeds, path, codes = random.Random(seed), _seeds(), tmp_path / "upload", set()
    for _ in range(FILES):
        path.write_bytes(_mutate(seeds, chance))
        started = time.process_time()
        try:
            open_upload(path)
            codes.add("")
        except Refused as refused:
            codes.add(refused.code)
        assert time.process_time() - started < 5
    # They reach beyond what first looks at a file.
    assert len(codes - {"", "damaged"}) > 1
