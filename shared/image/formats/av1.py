"""Reads the colours that an AV1 stream states, for containers that do not state them.

The stream's format is https://aomediacodec.github.io/av1-spec/ (5.3: units, 5.5: sequence headers).
"""

from __future__ import annotations

from shared.image.formats.heif_bits import Bits

_SEQUENCE_HEADER = 1
_HEADER_BYTES = 512
"""More than a sequence header can take up to its colours."""

_TIERED_LEVEL = 7
_LONGEST_CODE = 32
_HIGH, _PROFESSIONAL = 1, 2
_SELECTED = 2


def cicp(stream: bytes) -> tuple[int, int] | None:
    """Return the primaries and the transfer curve (CICP) of a stream's first sequence, or None if it has none."""
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 2 if head & 4 else 1
        size = len(stream) - at
        if head & 2:
            size, at = _leb128(stream, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return _of_sequence(Bits(stream[at : at + min(size, _HEADER_BYTES)]))
        at += size
    return None


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """Return a LEB128 number of up to 8 bytes, and where it ends (4.10.5)."""
    number = 0
    for turn in range(8):
        number |= (stream[at + turn] & 0x7F) << 7 * turn
        if not stream[at + turn] & 0x80:
            break
    return number, at + turn + 1


def _of_sequence(bits: Bits) -> tuple[int, int] | None:
    """Read a sequence header up to its colours (5.5.1 to 5.5.4)."""
    profile = bits.take(3)
    bits.take(1)  # still picture
    is_reduced = bool(bits.take(1))
    if is_reduced:
        bits.take(5)  # a still picture has only the level
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
    bits.take(across + down)
    try:
        _skip_tools(bits, is_reduced=is_reduced)
        return _cicp(bits, profile)
    except EOFError:
        return None


def _skip_tools(bits: Bits, *, is_reduced: bool) -> None:
    """Skip the flags of the coding tools (5.5.1)."""
    if not is_reduced and bits.take(1):
        bits.take(4 + 3)  # the lengths of frame numbers
    bits.take(3)  # superblocks, intra-frame filters
    if not is_reduced:
        bits.take(4)  # inter-frame tools
        has_order = bits.take(1)
        if has_order:
            bits.take(2)
        forces_screen_content = _SELECTED if bits.take(1) else bits.take(1)
        if forces_screen_content and not bits.take(1):
            bits.take(1)
        if has_order:
            bits.take(3)
    bits.take(3)  # loop filters


def _cicp(bits: Bits, profile: int) -> tuple[int, int] | None:
    """Read the colours, as numbers of H.273 (5.5.2)."""
    is_deep = bits.take(1)
    if profile == _PROFESSIONAL and is_deep:
        bits.take(1)
    if profile != _HIGH:
        bits.take(1)  # monochrome
    return (bits.take(8), bits.take(8)) if bits.take(1) else None


def _timing(bits: Bits) -> int:
    """Skip the timing information; return the length of a delay in bits, 0 if there are none."""
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
