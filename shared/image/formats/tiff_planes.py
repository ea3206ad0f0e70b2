"""Reads a TIFF channel by channel, each as a grey picture of its own, and merges the channels.

PlanarConfiguration 2 (TIFF 6.0, page 38) is what GDAL calls INTERLEAVE=BAND. Pillow mistakes some such planes for
pixels of another depth or order, so each plane is decoded as a file of one channel. Interleaved channels are extracted
first if Pillow does not support them. Channels that are neither colour nor alpha, such as near infrared, are left out.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from shared.errors import CorruptImage
from shared.image.colour import ColourSpace
from shared.image.colour_conversion import as_rgb
from shared.image.depth import to_8_bits
from shared.image.formats import tiff_tags as tags
from shared.image.formats.tiff_directory import ASSOCIATED
from shared.image.formats.tiff_plugin import FirstPage
from shared.image.formats.tiff_samples import channels
from shared.image.formats.tiff_writing import file_of_pieces, longs

if TYPE_CHECKING:
    from shared.image.formats.tiff import TiffInspection
    from shared.image.formats.tiff_directory import Directory

_MODES = {
    tags.WHITE_IS_ZERO: "L",
    tags.BLACK_IS_ZERO: "L",
    tags.RGB: "RGB",
    tags.PALETTE: "P",
    tags.CMYK: "CMYK",
    tags.YCBCR: "YCbCr",
    tags.LAB: "LAB",
}
_WITH_ALPHA = {"L": ("", "La", "LA"), "P": ("", "RGBa", "RGBA"), "RGB": ("", "RGBa", "RGBA")}
"""By the alpha channel's kind in ExtraSamples: 1 if the colours are premultiplied."""

_COPIED = (
    tags.WIDTH,
    tags.HEIGHT,
    tags.COMPRESSION,
    tags.FILL_ORDER,
    tags.ROWS_PER_STRIP,
    tags.PREDICTOR,
    tags.TILE_WIDTH,
    tags.TILE_HEIGHT,
    tags.JPEG_TABLES,
)
"""The entries that are the same for each plane as for the whole page."""


def assemble(source: TiffInspection) -> Image.Image:
    """Decode the visible channels, and return the picture made of them, with 8 bits per channel."""
    directory = source.directory
    photometric = directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO)
    if photometric not in _MODES or (photometric == tags.YCBCR and directory.numbers(tags.SUBSAMPLING) not in _WHOLE):
        raise directory.unsupported_pixels()
    mode = _MODES[photometric]
    count = len(Image.new(mode, (1, 1)).getbands())
    number, kind = directory.alpha(count) or (0, 0)
    colours = _planes(source, [*range(count), *([number] if kind else [])])
    alphas = colours[count:]
    del colours[count:]
    if mode == "P":
        mode, colours = "RGB", list(colours[0].convert("RGB").split())
    elif mode == "LAB":
        colours[1:] = [plane.point(_UNSIGNED) for plane in colours[1:]]
    elif photometric == tags.WHITE_IS_ZERO:
        colours = [ImageChops.invert(colours[0])]
    profile = directory.bytes_of(tags.PROFILE) or source.profile
    if alphas and mode not in _WITH_ALPHA:
        return _transparent(mode, colours, alphas[0], kind, profile)
    image = Image.merge(_WITH_ALPHA[mode][kind] if alphas else mode, [*colours, *alphas])
    image.info = {"icc_profile": profile} if profile else {}
    return image


def _transparent(
    mode: str, colours: list[Image.Image], alpha: Image.Image, kind: int, profile: bytes | None
) -> Image.Image:
    """Return colours that Pillow supports no alpha channel for as RGB with one."""
    if kind == ASSOCIATED:
        colours = [Image.merge("La", (plane, alpha)).convert("LA").getchannel(0) for plane in colours]
    image = as_rgb(Image.merge(mode, colours), profile)
    image.putalpha(alpha)
    image.info = {"colours": ColourSpace()}
    return image


_WHOLE = ((), (1, 1))
_UNSIGNED = [value ^ 0x80 for value in range(256)]


def _planes(source: TiffInspection, numbers: list[int]) -> list[Image.Image]:
    return [_plane(source, number) for number in numbers] if source.has_planes else channels(source, numbers)


def _plane(source: TiffInspection, number: int) -> Image.Image:
    """Decode one plane, and reduce it to 8 bits at once, to make room for the others."""
    image = FirstPage(BytesIO(_file_of_plane(source, number)))
    image.load()
    plane = image._new(image.im)  # noqa: SLF001 - no public method releases a decoder
    if _is_palette(source.directory, number):
        return plane
    return to_8_bits(plane, source.depth) if plane.mode.startswith("I;16") else plane.convert("L")


def _file_of_plane(source: TiffInspection, number: int) -> bytes:
    """Return a TIFF of one plane only."""
    directory = source.directory
    count, rest = divmod(len(directory.pieces()), directory.first(tags.SAMPLES, 1))
    if rest or not count:
        raise CorruptImage(
            "The TIFF is damaged: the number of parts of its planes does not match its directory. Save it again."
        )
    entries = {
        **{tag: directory.entry(tag) for tag in _COPIED if tag in directory.entries},
        tags.BITS: longs(directory.order, source.depth),
        tags.PHOTOMETRIC: longs(directory.order, tags.BLACK_IS_ZERO),
        tags.SAMPLES: longs(directory.order, 1),
    }
    if _is_palette(directory, number):
        entries[tags.PHOTOMETRIC] = directory.entry(tags.PHOTOMETRIC)
        entries[tags.COLOUR_MAP] = directory.entry(tags.COLOUR_MAP)
    return file_of_pieces(directory, directory.pieces()[number * count : (number + 1) * count], entries)


def _is_palette(directory: Directory, number: int) -> bool:
    return number == 0 and directory.first(tags.PHOTOMETRIC, tags.WHITE_IS_ZERO) == tags.PALETTE
