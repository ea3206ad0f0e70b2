"""Compares what leaves with the array that went in, in colour: libvips decodes, colour-science judges."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyvips

from shared.image import NormalizedImage, normalize_image

with warnings.catch_warnings():  # it warns of what it could use and does not find
    warnings.simplefilter("ignore")
    import colour as colour  # noqa: PLC0414 - for those who ask this judge

Pixels = Any
"""An array of numpy's, which this project's type checker does not see."""

WIDTH, HEIGHT, CELL = 64, 48, 8
_D50 = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"]
SRGB = colour.RGB_COLOURSPACES["sRGB"]


def cells(channels: int, low: float = 0.0, high: float = 1.0) -> Pixels:
    """Return flat cells of as many colours as there are cells, from 0 to 1: no plane of it looks like another."""
    columns, rows = WIDTH // CELL, HEIGHT // CELL
    across, down = np.meshgrid(np.arange(columns) / (columns - 1), np.arange(rows) / (rows - 1))
    rising = (across, down, (across + 1 - down) / 2, 1 - across * down, down * down)
    planes = (*rising, across * across, 1 - down, 1 - across)
    small = np.stack(planes[:channels], axis=-1)
    return low + (high - low) * small.repeat(CELL, axis=0).repeat(CELL, axis=1)


def as_integers(values: Pixels, depth: int) -> Pixels:
    """Return values from 0 to 1 as numbers of so many bits."""
    return np.round(values * (2**depth - 1)).astype(np.uint8 if depth <= 8 else np.uint16)


def lab_of(rgb: Pixels, space: Any = SRGB, *, is_linear: bool = False) -> Pixels:
    """Return the Lab, under D50, of colours that are encoded as a space says, or are light already."""
    return _lab(colour.RGB_to_XYZ(rgb, space, apply_cctf_decoding=not is_linear), space.whitepoint)


def _lab(xyz: Pixels, white: Any) -> Pixels:
    whites = colour.xy_to_XYZ(white), colour.xy_to_XYZ(_D50)
    return colour.XYZ_to_Lab(colour.adaptation.chromatic_adaptation_VonKries(xyz, *whites, transform="Bradford"), _D50)


def sent(data: bytes) -> tuple[NormalizedImage, Pixels, Pixels]:
    """Return what leaves, its Lab, and its alpha from 0 to 1, as libvips and its profile make them."""
    normalized = normalize_image(data)
    image = pyvips.Image.new_from_buffer(normalized.data, "", fail_on="warning")
    alpha = np.ones((image.height, image.width))
    if image.hasalpha():
        alpha = image[image.bands - 1].numpy() / 255
        image = image[0 : image.bands - 1] if image.bands > 2 else image[0]
    if image.get_typeof("icc-profile-data"):
        xyz = image.icc_import(embedded=True, pcs="xyz").numpy() / 100  # under D65; its Lab would be cut off at 128
        return normalized, _lab(xyz, SRGB.whitepoint), alpha
    return normalized, lab_of(colours_of(image.numpy() / 255)), alpha


def colours_of(values: Pixels) -> Pixels:
    """Return grey as three colours that are the same."""
    values = np.atleast_3d(values)
    return values if values.shape[-1] > 1 else values.repeat(3, axis=-1)


def difference(lab: Pixels, expected: Pixels) -> Pixels:
    """Return the CIEDE2000 of each pixel."""
    return colour.delta_E(lab, expected, method="CIE 2000")
