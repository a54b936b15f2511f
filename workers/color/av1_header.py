"""The color description in the header of an AV1 bitstream.

Source: AV1 Bitstream & Decoding Process Specification, 5.5.
"""

from __future__ import annotations

_SEQUENCE_HEADER = 1
_MOST_UNITS = 16


class _Bits:
    """Reads integers from bits, the most significant first. Zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else 0
        return shifted & ((1 << count) - 1)

    def skip_exp_golomb(self) -> None:
        """Skip a number of variable length: uvlc() of the specification."""
        zeros = 0
        while zeros < 32 and not self.read(1):
            zeros += 1
        self.read(zeros)


def read_code_points(data: bytes) -> tuple[int, int, int] | None:
    """Return color primaries, transfer and matrix from the first bytes of an AV1 stream.

    Returns:
        None if the bytes have no sequence header, or it does not describe colors.
    """
    position = 0
    for _ in range(_MOST_UNITS):
        if position >= len(data):
            return None
        head = data[position]
        position += 2 if head & 4 else 1
        length = len(data) - position
        if head & 2:
            length, position = _read_leb128(data, position)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return _read_sequence_header(_Bits(data[position : position + length]))
        position += length
    return None


def _read_leb128(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = 0
    for index, byte in enumerate(data[position : position + 8]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    return len(data), len(data)


def _read_sequence_header(bits: _Bits) -> tuple[int, int, int] | None:
    profile = bits.read(3)
    bits.read(1)
    is_reduced = bool(bits.read(1))
    if is_reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    if not is_reduced and bits.read(1):
        bits.read(7)
    # Superblocks of 128 pixels, intra filter, intra edge filter.
    bits.read(3)
    if not is_reduced:
        _skip_inter_tools(bits)
    # Super resolution, CDEF, loop restoration.
    bits.read(3)
    return _read_color_config(bits, profile)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    has_model = False
    if bits.read(1):
        bits.read(64)
        if bits.read(1):
            bits.skip_exp_golomb()
        has_model = bool(bits.read(1))
        if has_model:
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if has_model and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delay and bits.read(1):
            bits.read(4)


def _skip_inter_tools(bits: _Bits) -> None:
    bits.read(4)
    has_order_hint = bits.read(1)
    if has_order_hint:
        bits.read(2)
    # 2: each frame chooses for itself whether it has tools for screen content.
    screen_tools = 2 if bits.read(1) else bits.read(1)
    if screen_tools and not bits.read(1):
        bits.read(1)
    if has_order_hint:
        bits.read(3)


def _read_color_config(bits: _Bits, profile: int) -> tuple[int, int, int] | None:
    is_deep = bits.read(1)
    if profile == 2 and is_deep:
        bits.read(1)
    if profile != 1:
        bits.read(1)
    if not bits.read(1):
        return None
    return bits.read(8), bits.read(8), bits.read(8)
