"""Decides how HDR content, brighter than paper white, becomes a picture for an ordinary screen.

Pixels come as PQ or HLG (ITU-R BT.2100). White is 203 cd/m2, or 75 % of HLG on a screen of 1,000 cd/m2 (BT.2408, 5.1):
a picture with nothing brighter keeps the light of every pixel. A brighter one is rolled off by the curve of BT.2390,
5.4.1, in PQ values, scaled to its own brightest value: dark and middle tones stay, and no highlight is clipped. The
curve is applied to the largest of the three channels, and the others keep their proportion: grey stays grey, and no hue
changes.

Light is multiplied by adding logarithms from integer tables, as the app does not depend on numpy.
"""

from __future__ import annotations

from math import exp, log, log2
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageMath

from shared.image.colour import PQ, encoded, luminances

if TYPE_CHECKING:
    from shared.image.colour import ColourSpace

_WHITE_NITS = 203.0
_PQ_NITS = 10_000.0
_HLG_NITS = 1_000.0
_HLG_GAMMA = 1.2
_M1, _M2 = 2_610 / 16_384, 2_523 / 32
_C1, _C2, _C3 = 3_424 / 4_096, 2_413 / 128, 2_392 / 128
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073

_STOP, _WHITE = 2_000, 40_000
"""The number of steps per doubling of light, and the step of white."""

_STEPS = _MOST = 65_536
_PIECE_PIXELS = 250_000
"""How many pixels are processed at once; each takes 40 bytes meanwhile."""


def tone_map(image: Image.Image, space: ColourSpace) -> Image.Image:
    """Return `image`, L or RGB, with or without alpha, encoded with sRGB's curve."""
    mapped = image.copy()
    colours = image.split()[: 1 if image.mode in {"L", "LA"} else 3]
    nits_of_grey = _pq_nits if space.hdr == PQ else _hlg_nits
    largest = max(int(band.getextrema()[1]) for band in colours)  # type: ignore[arg-type]
    peak = max(nits_of_grey(largest / 255), _WHITE_NITS)
    mapping = _OfPq(peak) if space.hdr == PQ else _OfHlg(peak, luminances(space.primaries))
    rows = max(1, _PIECE_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = 0, top, image.width, min(top + rows, image.height)
        piece = image.crop(box)
        bands = list(piece.split())
        bands[: len(colours)] = mapping.apply(bands[: len(colours)])
        mapped.paste(Image.merge(image.mode, bands), box)
    return mapped


class _OfPq:
    """Tables for a picture in PQ."""

    def __init__(self, peak: float) -> None:
        lights = [_pq_nits(number / 255) for number in range(256)]
        self._steps = list(map(_step, lights))
        self._gains = [_gain(light, peak) for light in lights]
        self._encoded = _encoded_steps()

    def apply(self, bands: list[Image.Image]) -> list[Image.Image]:
        gain = _largest(bands).point(self._gains, "F")
        return [_looked_up(_sum(band.point(self._steps, "F"), gain), self._encoded) for band in bands]


class _OfHlg:
    """Tables for a picture in HLG, in which the light of each channel depends on the luminance of all of them."""

    def __init__(self, peak: float, weights: tuple[float, float, float]) -> None:
        scene = [_hlg_scene(number / 255) for number in range(256)]
        self._steps = [_step(_HLG_NITS * light) for light in scene]
        self._weighted = [[(_MOST - 1) * weight * light for light in scene] for weight in weights]
        self._numbers = [round(255 * _hlg_number(level / (_MOST - 1))) for level in range(_MOST)]
        self._luminance_gains = [_STOP * (_HLG_GAMMA - 1) * log2(max(light, 1e-6)) for light in scene]
        highest = _pq_number(peak)
        self._shares = [round(255 * min(1.0, _pq_number(_light(step)) / highest)) for step in range(_STEPS)]
        self._gains = [_gain(_pq_nits(share / 255 * highest), peak) for share in range(256)]
        self._encoded = _encoded_steps()

    def apply(self, bands: list[Image.Image]) -> list[Image.Image]:
        parts = [band.point(table, "F") for band, table in zip(bands * (3 // len(bands)), self._weighted, strict=True)]
        luminance = _looked_up(_sum(*parts), self._numbers)
        gain = luminance.point(self._luminance_gains, "F")
        light = _sum(_largest(bands).point(self._steps, "F"), gain)
        gain = _sum(gain, _looked_up(light, self._shares).point(self._gains, "F"))
        return [_looked_up(_sum(band.point(self._steps, "F"), gain), self._encoded) for band in bands]


def _largest(bands: list[Image.Image]) -> Image.Image:
    largest = bands[0]
    for band in bands[1:]:
        largest = ImageChops.lighter(largest, band)
    return largest


def _sum(*parts: Image.Image) -> Image.Image:
    total = parts[0]
    for part in parts[1:]:
        total = ImageMath.lambda_eval(lambda images: images["a"] + images["b"], a=total, b=part)
    return total


def _looked_up(steps: Image.Image, table: list[int]) -> Image.Image:
    """Return a table's value for each step; its first and last value beyond its ends."""
    return steps.convert("I").point(table, "L")


def _step(nits: float) -> int:
    return round(_STOP * log2(nits / _WHITE_NITS)) + _WHITE if nits else -_STEPS


def _light(step: int) -> float:
    """Return the light, in cd/m2, of a step."""
    return float(_WHITE_NITS * 2 ** ((step - _WHITE) / _STOP))


def _encoded_steps() -> list[int]:
    return [round(255 * encoded(min(1.0, _light(step) / _WHITE_NITS))) for step in range(_STEPS)]


def _gain(nits: float, peak: float) -> float:
    """Return by how many steps light is rolled off."""
    return _STOP * log2(_rolled_off(nits, peak) / nits) if nits else 0.0


def _rolled_off(nits: float, peak: float) -> float:
    """Return the displayed light, at most white's, for light up to `peak` (BT.2390, 5.4.1, steps 1 to 4)."""
    highest = _pq_number(peak)
    white = _pq_number(_WHITE_NITS) / highest
    knee = 1.5 * white - 0.5
    number = min(1.0, _pq_number(nits) / highest)
    if number <= knee or peak <= _WHITE_NITS:
        return nits
    t = (number - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return _pq_nits(spline * highest)


def _pq_nits(number: float) -> float:
    """Return the light, in cd/m2, of a PQ value from 0 to 1 (BT.2100, table 4)."""
    power = number ** (1 / _M2)
    return float(_PQ_NITS * (max(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_number(nits: float) -> float:
    power = (nits / _PQ_NITS) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_scene(number: float) -> float:
    """Return the scene light, from 0 to 1, of an HLG value from 0 to 1 (BT.2100, table 5)."""
    return number * number / 3 if number <= 0.5 else (exp((number - _C) / _A) + _B) / 12  # noqa: PLR2004


def _hlg_number(scene: float) -> float:
    return float((3 * scene) ** 0.5) if scene <= 1 / 12 else _A * log(12 * scene - _B) + _C


def _hlg_nits(number: float) -> float:
    """Return the light, in cd/m2, of a grey HLG value on a screen of 1,000 cd/m2."""
    return float(_HLG_NITS * _hlg_scene(number) ** _HLG_GAMMA)
