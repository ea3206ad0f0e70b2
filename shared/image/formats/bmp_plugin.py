"""Pillow's BMP plugin, extended by bit masks that it does not support, such as transparency in 16 bits.

Of run lengths that end before the last row, which are intact, it supports none either.

https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-bitmapv4header (bV4RedMask and the others)
"""

from __future__ import annotations

from os import SEEK_CUR
from typing import TYPE_CHECKING, Any, cast

from PIL import Image, ImageMath
from PIL.BmpImagePlugin import BmpImageFile, BmpRleDecoder

from shared.errors import UnsupportedFormat
from shared.image.depth import DEEP_VALUES
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from shared.image.formats.bmp import BmpInspection

_SHORT_BITS = 16


def open_image(source: BmpInspection, _scale: int = 1) -> Image.Image:
    """Open the picture; one whose pixels are all transparent has none that was meant, as other programs assume."""
    image = _masked(source, source.masks) if source.masks else _opened(source)
    if image.mode != "RGBA":
        return image
    image.load()
    return image.convert("RGB") if image.getchannel("A").getextrema() == (0, 0) else image


def _masked(source: BmpInspection, masks: tuple[int, int, int, int]) -> Image.Image:
    """Extract the channels: Pillow does not support these masks."""
    if not all(masks[:3]) or max(mask.bit_count() for mask in masks) > _SHORT_BITS:
        raise UnsupportedFormat(
            "The BMP stores its colours with unusual bit masks, which are not supported. Save it with 24 bits."
        )
    stored = _pixels(source)
    return Image.merge("RGBA" if masks[3] else "RGB", [_channel(stored, mask) for mask in masks if mask])


def _opened(source: BmpInspection) -> Image.Image:
    image = BmpImageFile(as_file(source.data))
    image.tile = [tile._replace(codec_name=_CODECS.get(tile.codec_name, tile.codec_name)) for tile in image.tile]
    return image


class _RunLengths(BmpRleDecoder):
    """Pixels without a run have the palette's first colour, also if the end of the bitmap comes before them."""

    def set_as_raw(self, data: bytes | bytearray, rawmode: str | None = None, extra: tuple[Any, ...] = ()) -> None:
        """Fill up the picture if the last two bytes that were read are the end of the bitmap."""
        if self.fd and self.fd.seek(-2, SEEK_CUR) and self.fd.read(2) == _END_OF_BITMAP:
            data = data.ljust(self.state.xsize * self.state.ysize, b"\0")
        super().set_as_raw(data, rawmode, extra)


_END_OF_BITMAP = b"\0\1"
_CODECS = {"bmp_rle": "bmp_run_lengths"}
Image.register_decoder("bmp_run_lengths", _RunLengths)


def _pixels(source: BmpInspection) -> Image.Image:
    """Return the pixels as stored; rows are padded to 4 bytes, and the lowest row comes first."""
    width, height = source.header.width, source.header.height
    stride = (width * source.bits + 31) // 32 * 4
    stored = source.data[source.start : source.start + stride * height]
    mode = "I;16" if source.bits == _SHORT_BITS else "I"
    order = 1 if source.is_top_down else -1
    return Image.frombytes(mode, (width, height), stored, "raw", mode, stride, order).convert("I")


def _channel(stored: Image.Image, mask: int) -> Image.Image:
    """Return the values of a mask's bits, scaled to 255."""
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    numbers = ImageMath.lambda_eval(lambda images: (images["a"] >> shift) & most, a=stored)
    levels = [round(255 * min(number, most) / most) for number in range(DEEP_VALUES)]
    return cast("Image.Image", numbers.point(levels, "L"))
