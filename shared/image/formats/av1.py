"""Decides how large the pictures in an AV1 stream are, whatever the container around it says.

A decoder takes memory for what the stream says, and makes it smaller afterwards. The stream is
https://aomediacodec.github.io/av1-spec/ (5.3 for its units, 5.5 for the header of a sequence).
"""

from __future__ import annotations

from shared.errors import UnsupportedFormat

_MAX_UNITS = 1_000
_SEQUENCE_HEADER = 1
_HEADER_BYTES = 512
"""More than its part before the size can take."""

_TIERED_LEVEL = 7
_LONGEST_CODE = 32


def largest_picture(stream: bytes) -> int:
    """Return the pixels of the largest picture that a sequence in it may have."""
    largest = at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(stream):
            return largest
        head = stream[at]
        at += 2 if head & 4 else 1
        size = len(stream) - at
        if head & 2:
            size, at = _leb128(stream, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            largest = max(largest, _most_pixels(_Bits(stream[at : at + min(size, _HEADER_BYTES)])))
        at += size
    raise UnsupportedFormat("The AVIF is in far more parts than a usual one. Save it as a JPEG.")


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to 8 bytes of 7 bits each, and where it ends (4.10.5)."""
    number = 0
    for turn in range(8):
        number |= (stream[at + turn] & 0x7F) << 7 * turn
        if not stream[at + turn] & 0x80:
            break
    return number, at + turn + 1


def _most_pixels(bits: _Bits) -> int:
    """Read the header of a sequence up to the size of its pictures (5.5.1 to 5.5.4)."""
    bits.take(3 + 1)  # profile, still picture
    if bits.take(1):
        bits.take(5)  # of a still picture alone, the level
    else:
        delay_bits = _timing(bits)
        has_delays = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > _TIERED_LEVEL:
                bits.take(1)
            if delay_bits and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if has_delays and bits.take(1):
                bits.take(4)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _timing(bits: _Bits) -> int:
    """Read over the times of a sequence; return the bits of a delay, 0 where there are none."""
    if not bits.take(1):
        return 0
    bits.take(32 + 32)
    if bits.take(1):
        zeros = 0
        while not bits.take(1):
            zeros += 1
        bits.take(zeros if zeros < _LONGEST_CODE else 0)
    if not bits.take(1):
        return 0
    delay_bits = bits.take(5) + 1
    bits.take(32 + 5 + 5)
    return delay_bits


class _Bits:
    """Bits that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._number >> self._left & (1 << count) - 1
