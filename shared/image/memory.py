"""Predicts how much memory an image may take, from its header alone, before it is admitted.

The peak is that of the most expensive step, in addition to the file itself, which the caller holds. With P decoded
pixels (for a JPEG, few more than are sent) and O output pixels, padding included ::

    base + 2 x file + max(decoder x P, 8 x P, 4 x P + resizing, 13 x O)

- `decoder`: bytes per pixel while it is decoded (`recognition`), plus buffers that the inspection knows of: the
  coefficients of a JPEG with several scans, a strip or a tile of a TIFF;
- 8: a palette or 16 bits are converted to channels, while the previous picture still exists;
- `resizing`: an intermediate picture with the new width and the old height, and the new one; 4 x P more if the picture
  may be transparent, as its colours are premultiplied;
- 13: a transparent picture, its colours, its background, and its mask. An opaque one takes 12: it is resized again if
  its size was predicted too low.

An image that is passed through takes a 64th of its pixels, and the coefficients.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING

from shared.image.decoding import scale_for
from shared.image.examination import may_pass
from shared.image.refusals import padded

if TYPE_CHECKING:
    from shared.image.formats.recognition import Format
    from shared.image.inspection import Inspection
    from shared.image.model import ImageLimits

_BASE_BYTES = 12_000_000
"""The decoders' tables and buffers, and rows in transit."""

_OUTPUTS = 4
"""The encoder's output exists twice for a moment, and may be twice as large as the limit."""

_TABLES = 15_000_000
"""The lookup tables of tone mapping, and the piece of the picture that it processes at once."""

_WHOLE, _CONVERTED, _OPAQUE, _FLATTENED = 4, 8, 12, 13


def peak_bytes(source: Inspection, kind: Format, limits: ImageLimits) -> int:
    """Return the most bytes that normalizing takes, in addition to the file itself. Decodes nothing."""
    files = _BASE_BYTES + 2 * len(source.data)
    if may_pass(source, limits):
        return files + source.buffer_bytes + source.pixels // 64
    colours = _TABLES if source.colours and not source.colours.is_srgb else 0
    return files + colours + _OUTPUTS * limits.max_output_bytes + _pixel_bytes(source, kind, limits)


def _pixel_bytes(source: Inspection, kind: Format, limits: ImageLimits) -> int:
    scale = scale_for(source, limits)
    width, height = ceil(source.header.width / scale), ceil(source.header.height / scale)
    pixels = width * height
    decoding = kind.bytes_per_pixel * pixels + source.buffer_bytes
    least = _WHOLE if source.is_opaque else _CONVERTED
    across, down = padded(width, height, limits)
    share = min(1.0, limits.max_output_pixels / (across * down))
    resizing = 0 if share == 1 else ceil(_WHOLE * pixels * (sqrt(share) + share))
    leaving = min(limits.max_output_pixels, across * down)
    return max(decoding, least * pixels + resizing, (_OPAQUE if source.is_opaque else _FLATTENED) * leaving)
