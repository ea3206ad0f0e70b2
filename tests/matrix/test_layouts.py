"""Every layout of PNG, JPEG, WebP, GIF, BMP, HEIC and AVIF that other writers know leaves in its colours."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import pyvips

from tests.matrix.judge import Pixels, as_integers, cells, colours_of, difference, lab_of, sent

CHANNELS = {"grey": 1, "grey and alpha": 2, "rgb": 3, "rgb and alpha": 4}


def expected(values: Pixels) -> tuple[Pixels, Pixels]:
    """Return the Lab and the alpha of values from 0 to 1."""
    channels = values.shape[-1]
    colours = values[..., : channels - (channels in {2, 4})]
    alpha = values[..., -1] if channels in {2, 4} else np.ones(values.shape[:2])
    return lab_of(colours_of(colours)), alpha


def agree(data: bytes, values: Pixels, most: float, *, of_alpha: float = 0.006, cell: int = 0) -> None:
    """Demand that what leaves differs by so much in no pixel: CIEDE2000, and of 1 in alpha; where it can be seen.

    What it was padded with, at the top and at the bottom, does not count; nor do the edges of cells of a size, where
    colours run into one another that share them.
    """
    _, lab, alpha = sent(data)
    colours, transparency = expected(values)
    top = (lab.shape[0] - colours.shape[0]) // 2
    lab, alpha = (part[top : top + colours.shape[0]] for part in (lab, alpha))
    assert abs(alpha - transparency).max() < of_alpha
    counts = transparency > 0.2
    for axis, size in enumerate(counts.shape) if cell else ():
        inside = abs(np.arange(size) % cell - cell / 2) < cell / 4
        counts &= inside[:, None] if axis == 0 else inside
    assert difference(lab, colours)[counts].max() < most


def vips(values: Pixels) -> Any:
    """Return an array as an image of libvips."""
    channels = values.shape[-1]
    interpretation = (
        ("b-w", "b-w", "srgb", "srgb") if values.dtype == np.uint8 else ("grey16", "grey16", "rgb16", "rgb16")
    )
    return pyvips.Image.new_from_array(values).copy(interpretation=interpretation[channels - 1])


def wide(values: Pixels) -> Pixels:
    """Return a picture so long that it has to be padded, and so made again."""
    return np.concatenate([values] * 5, axis=1)


@pytest.mark.parametrize("is_made_again", [False, True])
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", CHANNELS)
def test_png(name: str, depth: int, *, interlace: bool, is_made_again: bool) -> None:
    """Pixels of every kind, interlaced or not."""
    stored = as_integers(cells(CHANNELS[name]), depth)
    stored = wide(stored) if is_made_again else stored
    data = vips(stored).pngsave_buffer(interlace=interlace, keep="none")
    agree(bytes(data), stored / (2**depth - 1), 1)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_png_with_few_bits(bits: int, *, palette: bool, interlace: bool) -> None:
    """Grey, and palettes of every size that their bits allow."""
    levels = 2**bits
    steps = np.round(cells(1) * (levels - 1)) / (levels - 1)
    values = wide(steps if not palette else np.concatenate([steps, 1 - steps, steps * 0 + 0.5], axis=-1))
    data = vips(as_integers(values, 8)).pngsave_buffer(
        bitdepth=bits, palette=palette, interlace=interlace, keep="none", dither=0, Q=100
    )
    agree(bytes(data), as_integers(values, 8) / 255, 1.5 if palette else 1)


JPEGS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": "444"},
    "4:2:2": {"subsampling": "422"},
    "4:2:0": {"subsampling": "420"},
    "4:4:0": {"subsampling": "440"},
    "4:1:1": {"subsampling": "411"},
    "rgb": {"outcolorspace": "rgb", "subsampling": "444"},
}


@pytest.mark.parametrize("is_made_again", [False, True])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", JPEGS)
def test_jpeg(name: str, *, optimize: bool, is_made_again: bool) -> None:
    """Chroma subsampled in every way, or not; cells are two blocks wide, so that no colour bleeds into another."""
    stored = as_integers(cells(3).repeat(4, axis=0).repeat(4, axis=1), 8)
    stored = wide(stored) if is_made_again else stored
    data = bytes(imagecodecs.jpeg8_encode(stored, 97, optimize=optimize, **JPEGS[name]))
    agree(data, stored / 255, 4, cell=32)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("name", ["grey", "rgb"])
def test_jpeg_by_libvips(name: str, *, interlace: bool) -> None:
    """Baseline and progressive."""
    stored = wide(as_integers(cells(CHANNELS[name]).repeat(4, axis=0).repeat(4, axis=1), 8))
    data = vips(stored).jpegsave_buffer(Q=97, interlace=interlace, keep="none", subsample_mode="off")
    agree(bytes(data), stored / 255, 4, cell=32)


@pytest.mark.parametrize("name", ["rgb", "rgb and alpha"])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("write", ["imagecodecs", "libvips"])
def test_webp(write: str, name: str, *, lossless: bool) -> None:
    """Lossy and lossless, and with transparency."""
    stored = as_integers(cells(CHANNELS[name]).repeat(4, axis=0).repeat(4, axis=1), 8)
    if write == "imagecodecs":
        data = bytes(imagecodecs.webp_encode(stored, 100, lossless=lossless))
    else:
        data = bytes(vips(stored).webpsave_buffer(Q=100, lossless=lossless, exact=True, keep="none"))
    agree(data, stored / 255, 1 if lossless else 4, cell=0 if lossless else 32)


def test_gif() -> None:
    """Its palette has as many colours as there are cells."""
    stored = as_integers(cells(3), 8)
    colours, indices = np.unique(stored.reshape(-1, 3), axis=0, return_inverse=True)
    colormap = np.zeros((256, 3), np.uint8)
    colormap[: len(colours)] = colours
    data = bytes(imagecodecs.gif_encode(indices.reshape(stored.shape[:2]).astype(np.uint8), colormap=colormap))
    agree(data, stored / 255, 1)
    agree(bytes(vips(stored).gifsave_buffer(effort=10, bitdepth=8, dither=0, keep="none")), stored / 255, 2)


@pytest.mark.parametrize("name", ["grey", "rgb"])
def test_bmp(name: str) -> None:
    """Grey by a palette, and full colour."""
    stored = as_integers(cells(CHANNELS[name]), 8)
    data = bytes(imagecodecs.bmp_encode(np.squeeze(stored)))
    agree(data, stored / 255, 1)


@pytest.mark.parametrize("chroma", ["444", "422", "420"])
@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("name", ["rgb", "rgb and alpha"])
def test_avif(name: str, depth: int, chroma: str) -> None:
    """Every chroma subsampling and depth, with and without transparency, and with several tiles."""
    stored = as_integers(cells(CHANNELS[name]).repeat(4, axis=0).repeat(4, axis=1), depth)
    for tiles in (None, (1, 1)):
        data = imagecodecs.avif_encode(
            stored, 100, bitspersample=depth, pixelformat=chroma, speed=9, tilelog2=tiles, numthreads=1
        )
        agree(bytes(data), stored / (2**depth - 1), 4, of_alpha=0.02, cell=32)


@pytest.mark.parametrize("chroma", [444, 422, 420])
@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("name", CHANNELS)
def test_heic(name: str, depth: int, chroma: int) -> None:
    """Every chroma subsampling and depth, with and without transparency."""
    channels = CHANNELS[name]
    if depth > 8 and channels == 2:
        return  # which this writer does not know
    stored = as_integers(cells(channels).repeat(4, axis=0).repeat(4, axis=1), depth)
    mode = ("L", "LA", "RGB", "RGBA")[channels - 1] + ("" if depth == 8 else ";16")
    buffer = BytesIO()
    pillow_heif.options.SAVE_HDR_TO_12_BIT = depth == 12
    shifted = stored if depth == 8 else stored.astype(np.uint16) << 16 - depth
    pillow_heif.encode(mode, stored.shape[1::-1], shifted.tobytes(), buffer, quality=100, chroma=chroma)
    agree(buffer.getvalue(), stored / (2**depth - 1), 4, of_alpha=0.02, cell=32)
