"""Decides which formats are supported, by content alone: the one place to add one.

A format needs one entry in `FORMATS`: its first bytes, the parser that inspects it without decoding it, and the plugin
of Pillow that decodes it. JPEG and PNG also name the function that passes them through untouched.

Decoding takes `bytes_per_pixel` for each decoded pixel, measured with the worst file of each format; `memory` adds the
rest. `max_pixels` keeps an image under about 650 MB; a larger one is refused, naming that number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast

from shared.errors import EmptySource, UnsupportedFormat
from shared.image.formats import bmp, dng, gif, heif, jpeg, png, unsupported, webp
from shared.image.formats.png_chunks import SIGNATURE
from shared.image.inspection import as_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from shared.image.inspection import Inspection


@dataclass(frozen=True)
class Format:
    """One supported kind of image.

    `plugin` names one of Pillow's plugins, or `decoder` a function of ours that opens an inspected file at a scale of
    1, 2, 4 or 8; `passer` names a function that returns the file without its metadata once it is found to be intact.
    These are names because importing Pillow is slow: 40 ms that a refusal does not need.
    """

    name: str
    recognizes: Callable[[bytes], bool]
    inspect: Callable[[bytes], Inspection]
    bytes_per_pixel: int
    max_pixels: int = 100_000_000
    plugin: str = ""
    decoder: str = ""
    passer: str = ""

    def open_image(self, source: Inspection, scale: int) -> Image:
        """Open what was inspected, so that it can be loaded."""
        opened: Any = (
            resolve_name(self.decoder)(source, scale)
            if self.decoder
            else resolve_name(self.plugin)(as_file(source.data))
        )
        return cast("Image", opened)


FORMATS = (
    Format(
        "JPEG",
        lambda head: head.startswith(b"\xff\xd8\xff"),
        jpeg.inspect,
        bytes_per_pixel=4,  # and the coefficients if it has several scans
        decoder="shared.image.formats.jpeg_integrity:decode",
        passer="shared.image.formats.jpeg_integrity:pass_on",
    ),
    Format(
        "PNG",
        lambda head: head.startswith(SIGNATURE),
        png.inspect,
        bytes_per_pixel=4,
        decoder="shared.image.formats.png_integrity:open_image",
        passer="shared.image.formats.png_integrity:pass_on",
    ),
    Format(
        "GIF",
        lambda head: head.startswith((b"GIF87a", b"GIF89a")),
        gif.inspect,
        bytes_per_pixel=5,
        max_pixels=40_000_000,  # all of them may be transparent
        decoder="shared.image.formats.gif_plugin:open_image",
    ),
    Format(
        "BMP",
        lambda head: head.startswith(b"BM"),
        bmp.inspect,
        bytes_per_pixel=4,
        decoder="shared.image.formats.bmp_plugin:open_image",
    ),
    Format(
        "TIFF",
        lambda head: head.startswith((b"II*\0", b"MM\0*")),
        dng.inspect,
        bytes_per_pixel=4,
        max_pixels=89_000_000,  # Pillow itself warns of more
        decoder="shared.image.formats.tiff_decoding:open_image",
        passer="shared.image.formats.tiff_decoding:pass_on",  # of a preview only
    ),
    Format(
        "WebP",
        lambda head: head[:4] + head[8:12] == b"RIFFWEBP",
        webp.inspect,
        bytes_per_pixel=16,
        max_pixels=25_000_000,
        decoder="shared.image.formats.webp_plugin:open_image",
    ),
    Format(
        "AVIF",
        heif.is_avif,
        heif.inspect_avif,
        bytes_per_pixel=9,
        max_pixels=40_000_000,
        plugin="shared.image.formats.avif_plugin:StillImage",
    ),
    Format(
        "HEIC",
        heif.is_heic,
        heif.inspect_heic,
        bytes_per_pixel=7,
        max_pixels=64_000_000,  # cameras have up to 61 million
        plugin="shared.image.formats.heic_plugin:StillImage",
    ),
)

_HEAD_BYTES = 512


def recognize(data: bytes) -> Format:
    """Return the format of `data`; if it is not supported, refuse it and say what it is."""
    if not data:
        raise EmptySource("The file is empty. Upload it again.")
    head = data[:_HEAD_BYTES]
    for candidate in FORMATS:
        if candidate.recognizes(head):
            return candidate
    raise UnsupportedFormat(unsupported.describe(data))
