"""Compares what leaves with the array that went in, in colour: libvips decodes, colour-science judges."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyvips

from shared.image import NormalizedImage, normalize_image

with warnings.catch_warnings():  # it warns of what it could use and does not find
    warnings.simplefilter("ignore")
    import colour

Pixels = Any
"""An array of numpy's, which this project's type checker does not see."""

WIDTH, HEIGHT, CELL = 64, 48, 8
_D50 = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"]
_D65 = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]


def cells(channels: int, low: float = 0.0, high: float = 1.0) -> Pixels:
    """Return flat cells of as many colours as there are cells, from 0 to 1: no plane of it looks like another."""
    columns, rows = WIDTH // CELL, HEIGHT // CELL
    across, down = np.meshgrid(np.arange(columns) / (columns - 1), np.arange(rows) / (rows - 1))
    planes = (across, down, (across + 1 - down) / 2, 1 - across * down, down * down)
    small = np.stack(planes[:channels], axis=-1)
    return low + (high - low) * small.repeat(CELL, axis=0).repeat(CELL, axis=1)


def as_integers(values: Pixels, depth: int) -> Pixels:
    """Return values from 0 to 1 as numbers of so many bits."""
    return np.round(values * (2**depth - 1)).astype(np.uint8 if depth <= 8 else np.uint16)


def xyz_of(rgb: Pixels, space: str = "sRGB") -> Pixels:
    """Return the tristimulus values of colours that are encoded as a space says, under D65."""
    return colour.RGB_to_XYZ(rgb, space, apply_cctf_decoding=True)


def lab_of(xyz: Pixels, white: Any = _D65) -> Pixels:
    """Return the Lab of what is lit by a white."""
    return colour.XYZ_to_Lab(xyz, white)


def sent(data: bytes) -> tuple[NormalizedImage, Pixels, Pixels]:
    """Return what leaves, its Lab, and its alpha from 0 to 1, as libvips and its profile make them."""
    normalized = normalize_image(data)
    image = pyvips.Image.new_from_buffer(normalized.data, "", fail_on="warning")
    alpha = np.ones((image.height, image.width))
    if image.hasalpha():
        alpha = image[image.bands - 1].numpy() / 255
        image = image[: image.bands - 1] if image.bands > 2 else image[0]
    if image.get_typeof("icc-profile-data"):
        return normalized, lab_of(image.icc_import(embedded=True, pcs="xyz").numpy() / 100, _D50), alpha
    rgb = image.numpy() / 255
    return normalized, lab_of(xyz_of(rgb if image.bands > 1 else np.stack([np.squeeze(rgb)] * 3, axis=-1))), alpha


def difference(lab: Pixels, expected: Pixels) -> Pixels:
    """Return the CIEDE2000 of each pixel."""
    return colour.delta_E(lab, expected, method="CIE 2000")
