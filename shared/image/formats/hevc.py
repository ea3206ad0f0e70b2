"""Reads the colours that an HEVC stream states, for containers that do not state them.

They are in the VUI of the first sequence parameter set (ITU-T H.265, 7.3.2.2 and E.2.1), which the container has a copy
of (`hvcC`, 14496-15, 8.3.3.1).
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
_WITH_DC = 2
"""The first size of blocks whose scaling lists begin with a number more."""


def cicp(configuration: bytes) -> tuple[int, int] | None:
    """Return the primaries and the transfer curve (CICP) in the content of `hvcC`, or None if it does not have them."""
    with suppress(EOFError):
        bits = _sequence(Bits(configuration[_ARRAYS]))
        _skip_to_vui(bits)
        return _of_vui(bits) if bits.take(1) else None
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


def _skip_to_vui(bits: Bits) -> None:
    """Skip what precedes the flag that says whether there is a VUI."""
    bits.take(4)
    layers = bits.take(3)  # beside the first
    bits.take(1 + _PROFILE_BITS + _LEVEL_BITS)
    present = [(bits.take(1), bits.take(1)) for _ in range(_MAX_LAYERS if layers else 0)]
    bits.take(sum(_PROFILE_BITS * profile + _LEVEL_BITS * level for profile, level in present[:layers]))
    bits.skip_codes(1)
    if bits.take_code() == _FULL_CHROMA:
        bits.take(1)
    bits.skip_codes(2)  # width and height
    bits.skip_codes(4 * bits.take(1) + 2)  # cropping, bit depths
    order_bits = bits.take_code() + 4
    bits.skip_codes(3 * (1 + layers * bits.take(1)) + 6)  # buffers of each layer, block sizes
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.take(2)
    if bits.take(1):  # raw blocks
        bits.take(8)
        bits.skip_codes(2)
        bits.take(1)
    _skip_reference_sets(bits)
    if bits.take(1):  # long-term reference pictures
        for _ in range(bits.take_code()):
            bits.take(order_bits + 1)
    bits.take(2)


def _skip_scaling_lists(bits: Bits) -> None:
    """Skip the lists for blocks of each size (7.3.4): each refers to another one, or has numbers of its own."""
    for size, (lists, numbers) in enumerate(((6, 16), (6, 64), (6, 64), (2, 64))):
        for _ in range(lists):
            bits.skip_codes(numbers + (size >= _WITH_DC) if bits.take(1) else 1)


def _skip_reference_sets(bits: Bits) -> None:
    """Skip the sets of short-term reference pictures (7.3.7).

    How long one is that is predicted from the previous one depends on what that refers to (7.4.8).
    """
    before: list[int] = []
    after: list[int] = []
    for number in range(bits.take_code()):
        if number and bits.take(1):
            sign = bits.take(1)
            shift = (bits.take_code() + 1) * (-1 if sign else 1)
            kept = [place + shift for place in (*before, *after, 0) if bits.take(1) or bits.take(1)]
        else:
            counts = bits.take_code(), bits.take_code()
            kept = [*_places(bits, counts[0], -1), *_places(bits, counts[1], 1)]
        before = sorted((place for place in kept if place < 0), reverse=True)
        after = sorted(place for place in kept if place > 0)


def _places(bits: Bits, count: int, direction: int) -> list[int]:
    """Return where reference pictures are, relative to the picture: each is so much further away than the last."""
    place, places = 0, []
    for _ in range(count):
        place += direction * (bits.take_code() + 1)
        bits.take(1)
        places.append(place)
    return places


def _of_vui(bits: Bits) -> tuple[int, int] | None:
    if bits.take(1) and bits.take(8) == _OTHER_RATIO:
        bits.take(32)
    if bits.take(1):  # overscan
        bits.take(1)
    if not bits.take(1):
        return None
    bits.take(4)
    return (bits.take(8), bits.take(8)) if bits.take(1) else None
