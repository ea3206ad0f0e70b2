"""Decides what pixel values mean if there is no ICC profile: turns a file's own description of its colours into one.

Such a description is that of ITU-T H.273 (CICP): the chromaticities of red, green, blue and white, and the transfer
curve from values to light. HEIC, AVIF and PNG use its numbers; PNG's older chunks and BMP's header state the same in
formats of their own.

A profile is embedded rather than applied, so that no colour is clipped. Only a curve that has too few of 256 values for
dark tones, such as that of linear light, is replaced by sRGB's; HDR content is tone-mapped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Value = TypeVar("Value")
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Primaries(NamedTuple):
    """The CIE 1931 chromaticities of white and of the three primaries, x before y."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


_D65, _C, _E, _DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
SRGB = Primaries(_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_SMPTE_170M = Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
PRIMARIES = {
    1: SRGB,
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    10: Primaries(_E, (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: Primaries(_DCI, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""By their number in H.273, table 2."""

MAX_PROFILE_BYTES = 4_000_000
"""Of an ICC profile; a larger one would leave no room for the picture."""

_NEAR = 0.002
"""The tolerance for chromaticities that are meant to be the same: writers round them."""

_GAMMA_OF_SRGB = 2.2
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
"""Pure power curves by their number in H.273, table 3. 17 is the one for cinema, whose white is slightly below its
largest value. The curves of cameras (1, 6, 14, 15) and 2, "unspecified", are treated as sRGB's, as browsers do."""

PQ, HLG = 16, 18
_MOST_GAMMA = 10.0
_DARK_GAMMA = 1.6
"""Below this gamma, 256 values are too few for dark tones."""


@dataclass(frozen=True)
class ColourSpace:
    """What pixel values mean: `gamma` is None for sRGB's curve; `hdr`, if set, is PQ or HLG, and replaces the curve."""

    primaries: Primaries = SRGB
    gamma: float | None = None
    hdr: int | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether it is sRGB, so that no profile is needed."""
        return self == ColourSpace()

    @property
    def lacks_dark_values(self) -> bool:
        """Whether its curve cannot be kept at 8 bits or fewer."""
        return self.gamma is not None and self.gamma < _DARK_GAMMA

    def with_srgb_curve(self) -> ColourSpace:
        """Return the same primaries with sRGB's curve."""
        return replace(self, gamma=None, hdr=None)

    def as_srgb_curve(self, levels: int) -> list[int]:
        """Return, for each of `levels` values, the 8-bit value with sRGB's curve."""
        gamma = self.gamma or 1.0
        return [round(255 * encoded((level / (levels - 1)) ** gamma)) for level in range(levels)]

    def profile(self, *, is_grey: bool) -> bytes:
        """Return it as an ICC profile, which describes only the curve if the picture is grey."""
        return _profile(self.primaries, self.gamma, is_grey=is_grey)


ADOBE_RGB = ColourSpace(Primaries(_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256)
"""Adobe RGB (1998), 4.3."""


def of_cicp(primaries: int, transfer: int) -> ColourSpace | None:
    """Return the colour space of two H.273 numbers, or None if they are unknown, or both 2, which is "unspecified"."""
    if primaries not in {*PRIMARIES, 2} or primaries == transfer == 2:  # noqa: PLR2004 - H.273
        return None
    hdr = transfer if transfer in {PQ, HLG} else None
    return ColourSpace(PRIMARIES.get(primaries, SRGB), _GAMMAS.get(transfer), hdr)


def of_gamma(primaries: Primaries | None, gamma: float | None) -> ColourSpace:
    """Return the colour space of chromaticities and a gamma, either of which may be missing or invalid."""
    if primaries and (not _are_real(primaries) or _are_near(primaries, SRGB)):
        primaries = None
    if gamma and not 1 / _MOST_GAMMA <= gamma <= _MOST_GAMMA:
        gamma = None
    if gamma and not primaries and abs(gamma / _GAMMA_OF_SRGB - 1) < 0.02:  # noqa: PLR2004 - within rounding
        gamma = None
    return ColourSpace(primaries or SRGB, gamma)


def encoded(light: float) -> float:
    """Return the sRGB value, from 0 to 1, of light from 0 to 1 (IEC 61966-2-1)."""
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055  # noqa: PLR2004


def decoded(number: float) -> float:
    """Return the light of an sRGB value."""
    return number / 12.92 if number <= 0.04045 else ((number + 0.055) / 1.055) ** 2.4  # noqa: PLR2004


def _are_near(one: Primaries, other: Primaries) -> bool:
    pairs = zip(chain.from_iterable(one), chain.from_iterable(other), strict=True)
    return all(abs(a - b) < _NEAR for a, b in pairs)


def _are_real(primaries: Primaries) -> bool:
    """Say whether white is a mixture of the three primaries, which must not be collinear."""
    if any(y <= 0 for _, y in primaries):
        return False
    (xr, yr), (xg, yg), (xb, yb) = primaries[1:]
    area = (xg - xr) * (yb - yr) - (xb - xr) * (yg - yr)
    return abs(area) > 1e-4 and all(share > 0 for share in _shares(primaries))  # noqa: PLR2004


def _xyz(point: tuple[float, float]) -> Vector:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _shares(primaries: Primaries) -> Vector:
    """Return how much of each primary makes white."""
    columns = _three(_xyz_of_primary(point) for point in primaries[1:])
    return _times(_inverse(_transposed(columns)), _xyz(primaries.white))


def _xyz_of_primary(point: tuple[float, float]) -> Vector:
    x, y = point
    return x, y, 1 - x - y


def luminances(primaries: Primaries) -> Vector:
    """Return the shares of red, green and blue in the luminance of white."""
    shares = _shares(primaries)
    return _three(share * y for share, (_, y) in zip(shares, primaries[1:], strict=True))


_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_D50: Vector = (0.9642, 1.0, 0.8249)
"""The white of ICC profiles (ICC.1, 7.2.16), and the matrix that adapts colours to it (annex E)."""


@cache
def _profile(primaries: Primaries, gamma: float | None, *, is_grey: bool) -> bytes:
    """Write a version 4 display profile (ICC.1:2022, 8.4 and 8.5)."""
    cones = _times(_BRADFORD, _xyz(primaries.white)), _times(_BRADFORD, _D50)
    scale = [to / at for at, to in zip(*cones, strict=True)]
    gains: Matrix = ((scale[0], 0.0, 0.0), (0.0, scale[1], 0.0), (0.0, 0.0, scale[2]))
    adaptation = _product(_inverse(_BRADFORD), _product(gains, _BRADFORD))
    curve = _fixed(b"para", 0, gamma) if gamma else _fixed(b"para", 3, *_SRGB_CURVE)
    tags = {b"desc": _text("as stated in the image file"), b"cprt": _text("CC0"), b"wtpt": _fixed(b"XYZ ", None, *_D50)}
    tags[b"chad"] = _fixed(b"sf32", None, *(number for row in adaptation for number in row))
    if is_grey:
        tags[b"kTRC"] = curve
    else:
        columns = [
            _times(adaptation, _three(share * part for part in _xyz_of_primary(point)))
            for share, point in zip(_shares(primaries), primaries[1:], strict=True)
        ]
        for name, xyz in zip((b"r", b"g", b"b"), columns, strict=True):
            tags[name + b"XYZ"] = _fixed(b"XYZ ", None, *xyz)
            tags[name + b"TRC"] = curve
    at, table, bodies = 132 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(bodies), len(body))
        bodies += body
    space = b"GRAY" if is_grey else b"RGB "
    header = struct.pack(">I4sI4s4s4s", at + len(bodies), bytes(4), 0x04300000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(b"", None, *_D50)[4:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


def _fixed(kind: bytes, function: int | None, *numbers: float) -> bytes:
    """Return a tag of s15Fixed16 numbers."""
    body = kind + bytes(4) + (b"" if function is None else struct.pack(">HH", function, 0))
    return body + struct.pack(f">{len(numbers)}i", *(round(65_536 * number) for number in numbers))


def _text(text: str) -> bytes:
    body = b"".join(bytes((0, code)) for code in text.encode("ascii"))  # the codec would have to be imported
    tag = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(body), 28) + body
    return tag + bytes(-len(tag) % 4)


def _times(matrix: Matrix, vector: Vector) -> Vector:
    return _three(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _transposed(matrix: Matrix) -> Matrix:
    return _three(zip(*matrix, strict=True))


def _product(left: Matrix, right: Matrix) -> Matrix:
    return _three(_times(_transposed(right), row) for row in left)


def _three(values: Iterable[Value]) -> tuple[Value, Value, Value]:
    first, second, third = values
    return first, second, third


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return (
        ((e * i - f * h) / determinant, (c * h - b * i) / determinant, (b * f - c * e) / determinant),
        ((f * g - d * i) / determinant, (a * i - c * g) / determinant, (c * d - a * f) / determinant),
        ((d * h - e * g) / determinant, (b * g - a * h) / determinant, (a * e - b * d) / determinant),
    )
