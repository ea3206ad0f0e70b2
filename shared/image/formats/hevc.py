"""Reads the colours that an HEVC stream states, for containers that do not state them.

They are in the VUI of the first sequence parameter set (ITU-T H.265, 7.3.2.2 and E.2.1), which the container has a copy
of (`hvcC`, 14496-15, 8.3.3.1). Sets with scaling lists or reference pictures, which still images hardly have, are not
parsed up to there.
"""

from __future__ import annotations

from contextlib import suppress

from shared.image.formats.heif_bits import Bits

_ARRAYS = slice(22, 4_096)
_SEQUENCE = 33
_PROFILE_BITS, _LEVEL_BITS = 88, 8
_MAX_LAYERS = 8
_FULL_CHROMA = 3
_OTHER_RATIO = 255


def cicp(configuration: bytes) -> tuple[int, int] | None:
    """Return the primaries and the transfer curve (CICP) in the content of `hvcC`, or None if it does not have them."""
    with suppress(EOFError):
        bits = _sequence(Bits(configuration[_ARRAYS]))
        return _of_vui(bits) if _skip_to_vui(bits) else None
    return None


def _sequence(arrays: Bits) -> Bits:
    """Return the first sequence parameter set, without the header of its unit."""
    for _ in range(arrays.take(8)):
        kind = arrays.take(8) & 63
        for _ in range(arrays.take(16)):
            size = arrays.take(16)
            unit = arrays.take(8 * size).to_bytes(size, "big")
            if kind == _SEQUENCE:
                return Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    raise EOFError


def _skip_to_vui(bits: Bits) -> bool:
    """Skip what precedes the VUI; return whether there is one."""
    bits.take(4)
    layers = bits.take(3)  # beside the first
    bits.take(1 + _PROFILE_BITS + _LEVEL_BITS)
    present = [(bits.take(1), bits.take(1)) for _ in range(_MAX_LAYERS if layers else 0)]
    bits.take(sum(_PROFILE_BITS * profile + _LEVEL_BITS * level for profile, level in present[:layers]))
    bits.skip_codes(1)
    if bits.take_code() == _FULL_CHROMA:
        bits.take(1)
    bits.skip_codes(2)  # width and height
    bits.skip_codes(4 * bits.take(1) + 3)  # cropping, bit depths, numbers of pictures
    bits.skip_codes(3 * (1 + layers * bits.take(1)) + 6)  # buffers of each layer, block sizes
    if bits.take(1) and bits.take(1):  # scaling lists
        return False
    bits.take(2)
    if bits.take(1):  # raw blocks
        bits.take(8)
        bits.skip_codes(2)
        bits.take(1)
    if bits.take_code() or bits.take(1):  # reference pictures
        return False
    bits.take(2)
    return bool(bits.take(1))


def _of_vui(bits: Bits) -> tuple[int, int] | None:
    if bits.take(1) and bits.take(8) == _OTHER_RATIO:
        bits.take(32)
    if bits.take(1):  # overscan
        bits.take(1)
    if not bits.take(1):
        return None
    bits.take(4)
    return (bits.take(8), bits.take(8)) if bits.take(1) else None
